"""Long work on an event loop in pieces: one piece in each turn of the loop, of its owners in turn.

Work that takes more than about a millisecond is cut into pieces of so much, and waits for its turn
before each. However many requests work long at once, others wait for one piece at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class RoundRobin(Generic[T]):
    """Items of owners, taken from one owner after the other."""

    def __init__(self) -> None:
        self._of: dict[Hashable, deque[T]] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def __contains__(self, owner: Hashable) -> bool:
        return owner in self._of

    def put(self, owner: Hashable, item: T) -> None:
        """Add an item behind those of its owner."""
        self._of.setdefault(owner, deque()).append(item)

    def take(self) -> T:
        """Return the first item of the owner whose turn it is."""
        owner = next(iter(self._of))
        items = self._of.pop(owner)
        item = items.popleft()
        if items:
            self._of[owner] = items  # behind all other owners
        return item


class Pieces:
    """The pieces of long work of one event loop.

    ``rests`` is how many turns of the loop have no piece after each that has one.
    """

    def __init__(self) -> None:
        self.rests = 0
        self._resting = 0
        self._taken = False
        """Whether a piece was begun in this turn of the loop, or it rests from one."""
        self._waiting: RoundRobin[asyncio.Future[None]] = RoundRobin()
        self._of_server: deque[asyncio.Future[None]] = deque()
        """Commits, for which many orgs may wait: they come first, and are few at a time."""

    async def take(self, owner: Hashable) -> None:
        """Return in a turn of the loop in which no other piece begins."""
        if self._taken:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if owner is None:
                self._of_server.append(turn)
            else:
                self._waiting.put(owner, turn)
            await turn
            return
        self._begin()

    def _begin(self) -> None:
        self._taken, self._resting = True, self.rests
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self._resting:
            self._resting -= 1
            asyncio.get_running_loop().call_soon(self._next)
            return
        self._taken = False
        while (self._of_server or self._waiting) and not self._taken:
            turn = self._of_server.popleft() if self._of_server else self._waiting.take()
            if not turn.done():  # cancelled
                turn.set_result(None)
                self._begin()


_of_loops: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Pieces]] = WeakKeyDictionary()


async def piece(owner: Hashable = None) -> None:
    """Wait until the running loop has time for a piece of long work of this owner.

    The owner is an org's id, or None for the server itself, which comes first. Whoever waits here
    holds nothing that other orgs wait for: no connection, no parser.
    """
    await pieces_of(asyncio.get_running_loop()).take(owner)


def pieces_of(loop: asyncio.AbstractEventLoop) -> Pieces:
    """Return the pieces of a loop."""
    found = _of_loops.get(loop)
    if found is None:
        found = _of_loops[loop] = Pieces()
    return found
