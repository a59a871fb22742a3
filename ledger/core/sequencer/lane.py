"""One org's queue. At any time a lane is idle, ready, or locked by one committer.

A locked lane is in no ready list. So one commit per org is in flight, and the
requests that arrive meanwhile become the next batch.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from ledger.chain import ChainHead
from ledger.core.sequencer.request import AppendRequest
from ledger.storage.entries.heads import LockedHead

MAX_REMEMBERED_HEADS: Final = 100_000


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
    """A head, and the time of the org's last thaw (µs, 0 for none) when it was seen.

    A thaw, by any process, is an operator's statement of what the head is. ``mark`` is that of the
    block which ends at the head, as it was written or checked here; None if it is not known.
    """

    org_id: int
    head: ChainHead
    thawed_us: int
    mark: bytes | None = None


class SeenHeads:
    """The newest head this process saw of each org; the least recent ones are dropped.

    Dropping a head does not weaken the check of the persisted head, which is always
    made; only a rollback to an earlier head is then missed.
    """

    def __init__(self, on_seen: Callable[[SeenHead], None] | None = None) -> None:
        self._heads: OrderedDict[int, SeenHead] = OrderedDict()
        self._on_seen = on_seen

    def get(self, org_id: int, thawed_us: int) -> ChainHead | None:
        """The head last seen, if it is remembered and the org was not thawed since; else None."""
        seen = self._heads.get(org_id)
        return None if seen is None or seen.thawed_us != thawed_us else seen.head

    def knows(self, org_id: int, locked: LockedHead) -> bool:
        """Return whether a persisted head and its block are those that were last seen here."""
        seen = self._heads.get(org_id)
        return (
            seen is not None
            and seen.mark is not None
            and (seen.head, seen.thawed_us, seen.mark)
            == (locked.head, locked.thawed_us, locked.mark)
        )

    def set(self, seen: SeenHead) -> None:
        """Remember a head that was committed, or that was read back and passed its check."""
        if self._on_seen is not None:
            self._on_seen(seen)
        self._heads[seen.org_id] = seen
        self._heads.move_to_end(seen.org_id)
        if len(self._heads) > MAX_REMEMBERED_HEADS:
            self._heads.popitem(last=False)
