"""Places that orgs take in turn, with shares for kinds of work: a fair queue with bounds.

An org that asks for many places waits for its own work, not others for it: of the waiting orgs each
gets one place in turn, and no org holds more than its share.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from ledger.errors import QueueFull

MAX_WAITING: Final = 10_000
"""Requests that wait in one queue, of all orgs and kinds together."""
MAX_OF_ORG: Final = 1_000
"""Requests of one org for one kind of work that wait."""

Waiter = asyncio.Future[None]


class Share(NamedTuple):
    """The places that one kind of work takes at most: of all orgs, and of one org.

    ``within``: another kind, among whose places these are counted too.
    """

    most: int
    of_org: int
    within: Hashable | None = None


class Turn(NamedTuple):
    """Who asks for a place, and for what: an owner, such as an org's id, or None for the server itself.

    The server itself has no share of its own. Where ``refusable`` is False, the request has begun to
    write: it waits without a bound of its org, and is not refused.
    """

    owner: Hashable
    kind: Hashable
    refusable: bool = True


class Turns:
    """``size`` places; ``shares`` are by kind, the most urgent kind first.

    ``full`` makes the error for an org of which too many wait.
    """

    def __init__(
        self,
        size: int,
        shares: Mapping[Hashable, Share],
        *,
        full: Callable[[Hashable], QueueFull],
        of_org: int = MAX_OF_ORG,
    ) -> None:
        self.size = size
        self._shares = dict(shares)
        self._full = full
        self._of_org = of_org
        self._held: Counter[Hashable] = Counter()
        self._held_by: Counter[tuple[Hashable, Hashable]] = Counter()
        self._all_held = 0
        # By kind, then by owner in the order of their turns.
        self._queues: dict[Hashable, dict[Hashable, deque[Waiter]]] = {kind: {} for kind in shares}
        self._waiting = 0

    @property
    def held(self) -> int:
        """The number of places that are held."""
        return self._all_held

    @property
    def waiting(self) -> int:
        """The number of requests that wait."""
        return self._waiting

    async def take(self, turn: Turn, timeout_s: float | None) -> None:
        """Take a place, to be given back; None: wait for any time. Raises QueueFull, or TimeoutError."""
        if self.take_now(turn):
            return
        self._require_room(turn)
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._queues[turn.kind].setdefault(turn.owner, deque()).append(waiter)
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except BaseException:
            self._leave(turn, waiter)
            raise

    def take_now(self, turn: Turn) -> bool:
        """Take a place, to be given back, if one is free and nobody of this owner waits."""
        if self.waiting_of(turn) or not self._fits(turn.owner, turn.kind):
            return False
        self._hold(turn.owner, turn.kind, 1)
        return True

    def waiting_of(self, turn: Turn) -> int:
        """Return how many requests of an owner wait for a kind of work."""
        return len(self._queues[turn.kind].get(turn.owner, ()))

    def _require_room(self, turn: Turn) -> None:
        if turn.owner is None or not turn.refusable:
            return
        if self._waiting >= MAX_WAITING or self.waiting_of(turn) >= self._of_org:
            raise self._full(turn.kind)

    def _leave(self, turn: Turn, waiter: Waiter) -> None:
        """Leave the queue, or give back the place that came at the same moment."""
        if waiter.done() and not waiter.cancelled():
            self.give_back(turn)
            return
        queue = self._queues[turn.kind]
        waiters = queue.get(turn.owner)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            self._waiting -= 1
            if not waiters:
                del queue[turn.owner]

    def give_back(self, turn: Turn) -> None:
        """Give a place back; whoever's turn it is takes it."""
        self._hold(turn.owner, turn.kind, -1)
        while self._waiting and self._call_next():
            pass

    def _call_next(self) -> bool:
        """Give a free place to the next waiter that may have it; False if there is none."""
        for kind, queue in self._queues.items():
            if not queue or self._all_held >= self.size:
                continue
            for owner in queue:
                if self._fits(owner, kind):
                    self._call(kind, owner)
                    return True
        return False

    def _call(self, kind: Hashable, owner: Hashable) -> None:
        queue = self._queues[kind]
        waiters = queue.pop(owner)
        waiter = waiters.popleft()
        if waiters:
            queue[owner] = waiters  # behind all other owners
        self._waiting -= 1
        if not waiter.done():
            self._hold(owner, kind, 1)
            waiter.set_result(None)

    def _fits(self, owner: Hashable, kind: Hashable) -> bool:
        if owner is None:
            return self._all_held < self.size
        own = self._held_by.get((owner, kind), 0) < self._shares[kind].of_org
        return own and self._has_place(kind)

    def _has_place(self, kind: Hashable) -> bool:
        return self._all_held < self.size and all(
            self._held[one] < self._shares[one].most for one in self._counted_as(kind)
        )

    def _counted_as(self, kind: Hashable) -> Iterator[Hashable]:
        found: Hashable | None = kind
        while found is not None:
            yield found
            found = self._shares[found].within

    def _hold(self, owner: Hashable, kind: Hashable, more: int) -> None:
        self._all_held += more
        for one in self._counted_as(kind):
            self._held[one] += more
        self._held_by[owner, kind] += more
        if not self._held_by[owner, kind]:
            del self._held_by[owner, kind]

    @asynccontextmanager
    async def place(self, turn: Turn, timeout_s: float | None) -> AsyncIterator[None]:
        """Hold a place in the block. Raises QueueFull, or TimeoutError."""
        await self.take(turn, timeout_s)
        try:
            yield
        finally:
            self.give_back(turn)
