"""One org's queue. At any time a lane is idle, ready, or locked by one committer.

A locked lane is in no ready list. So one commit per org is in flight, and the
requests that arrive meanwhile become the next batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from ledger.bounded import BoundedCache
from ledger.chain import ChainHead
from ledger.core.sequencer.heads.acknowledged import AcknowledgedHeads
from ledger.core.sequencer.request import AppendRequest
from ledger.storage.entries.heads import HeadCounts, KnownEnd, LockedHead

MAX_REMEMBERED_HEADS: Final = 100_000
SHARED_EVENTS: Final = 500
SHARED_BYTES: Final = 1 << 20
"""The most that one org adds to a batch that other orgs share; more it writes alone."""


class Lane:
    """The waiting requests of one org; ``lock`` is held while a batch of the lane is in flight."""

    __slots__ = ("lock", "org", "org_id", "queue", "waiting_bytes", "waiting_events")

    def __init__(self, org_id: int, org: str) -> None:
        self.org_id = org_id
        self.org = org
        self.queue: deque[AppendRequest] = deque()
        self.lock = asyncio.Lock()
        self.waiting_events = 0
        self.waiting_bytes = 0

    def put(self, request: AppendRequest) -> None:
        """Add a request to the end of the queue."""
        self.queue.append(request)
        self.waiting_events += len(request.drafts)
        self.waiting_bytes += request.size_bytes

    @property
    def changes_rows(self) -> bool:
        """True if the next request changes rows beside its entries."""
        return bool(self.queue) and (self.queue[0].row or self.queue[0].effect) is not None

    @property
    def is_large(self) -> bool:
        """True if a batch of what waits would hold up those whose requests share it."""
        return self.waiting_events > SHARED_EVENTS or self.waiting_bytes > SHARED_BYTES

    def take(self, max_events: int, max_bytes: int) -> list[AppendRequest]:
        """Remove and return the next requests: in order, within the bounds, at least one of any."""
        taken: list[AppendRequest] = []
        while self.queue:
            request = self.queue[0]
            max_events -= len(request.drafts)
            max_bytes -= request.size_bytes
            if taken and (request.alone or max_events < 0 or max_bytes < 0):
                break
            taken.append(self.queue.popleft())
            self.waiting_events -= len(request.drafts)
            self.waiting_bytes -= request.size_bytes
            if request.alone:
                break
        return taken


class SeenHead(NamedTuple):
    """A head as it was written or checked here, and the time of the org's last thaw (µs) then.

    ``mark`` is that of the block which ends at the head; None if it is not known. ``reset``: an
    operator accepted that the trail lost the entries that were acknowledged after this head.
    ``counts`` are those of the head row before; None if they are not known, or if another process
    extended the trail just before.
    """

    org_id: int
    head: ChainHead
    thawed_us: int
    mark: bytes | None = None
    reset: bool = False
    counts: HeadCounts | None = None


class KnownHead(NamedTuple):
    """The heads of an org that the check of its persisted head starts from; None if unknown.

    No head below ``acknowledged`` is accepted, and no other one at its seq. The entries after
    ``checked`` must be a valid extension of it.
    """

    acknowledged: ChainHead | None = None
    checked: ChainHead | None = None


NOTHING: Final = KnownHead()


class SeenHeads:
    """The newest head of each org that was acknowledged here.

    The file of acknowledged heads has those of all processes of this machine. Without it, only
    those of this process are known, and the least recent ones are dropped. The check of the
    persisted head is always made; only a rollback to an earlier head is then missed.
    """

    def __init__(
        self,
        memory: AcknowledgedHeads | None = None,
        on_seen: Callable[[SeenHead], None] | None = None,
    ) -> None:
        self._heads: BoundedCache[int, SeenHead] = BoundedCache(MAX_REMEMBERED_HEADS)
        self._memory = memory
        self._on_seen = on_seen

    def get(self, org_id: int, thawed_us: int) -> KnownHead:
        """Return the heads that are known of an org whose row has this time of its last thaw.

        A thaw accepts faults among the entries so far: they are not checked again. It makes no
        process forget what was acknowledged. The time is that of a row and may be forged.
        """
        seen = self._heads.get(org_id)
        own = None if seen is None else seen.head
        acknowledged = own if self._memory is None else self._memory.get(org_id)
        if seen is not None and seen.thawed_us == thawed_us:
            return KnownHead(acknowledged, own)
        return KnownHead(acknowledged, None if self._memory is None else acknowledged)

    def known_end(self, org_id: int) -> KnownEnd | None:
        """Return the end of a trail if it is the newest acknowledged one, and its block is known."""
        seen = self._heads.get(org_id)
        if seen is None or seen.mark is None or seen.counts is None:
            return None
        if self._memory is not None and self._memory.get(org_id) != seen.head:
            return None
        return KnownEnd(org_id, seen.head, seen.thawed_us, seen.counts, seen.mark)

    def knows(self, org_id: int, locked: LockedHead) -> bool:
        """Return whether a persisted head and its block are those that were last seen here."""
        seen = self._heads.get(org_id)
        return (
            seen is not None
            and seen.mark is not None
            and (seen.head, seen.mark) == (locked.head, locked.mark)
        )

    def reserve(self, org_ids: Iterable[int]) -> None:
        """Make room for the heads of these orgs, before they are written.

        Raises HeadMemoryUnavailable.
        """
        if self._memory is not None:
            self._memory.reserve(org_ids)

    def settle(self, seen: Iterable[SeenHead]) -> None:
        """Remember heads that were committed, or read back and checked; the last one of an org counts.

        Raises HeadMemoryUnavailable.
        """
        newest = {one.org_id: one for one in seen}
        if self._memory is not None:
            self._memory.remember({one.org_id: one.head for one in newest.values()})
            for one in newest.values():
                if one.reset:
                    self._memory.reset(one.org_id, one.head)
        for one in newest.values():
            self._cache(one)

    def _cache(self, seen: SeenHead) -> None:
        if self._on_seen is not None:
            self._on_seen(seen)
        self._heads.put(seen.org_id, seen)
