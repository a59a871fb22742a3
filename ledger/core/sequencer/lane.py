"""One org's queue. At any time a lane is idle, ready, or held by one committer.

That is the per-org lock: a held lane is in no ready list, so one commit per
org is in flight, and what arrives meanwhile becomes the next batch.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Final, NamedTuple

from ledger.chain import ChainHead
from ledger.core.sequencer.request import AppendRequest

MAX_REMEMBERED_HEADS: Final = 100_000


class Lane:
    """What waits for one org; ``lock`` is held while a batch of it is in flight."""

    __slots__ = ("lock", "org", "org_id", "queue", "waiting_bytes", "waiting_events")

    def __init__(self, org_id: int, org: str) -> None:
        self.org_id = org_id
        self.org = org
        self.queue: deque[AppendRequest] = deque()
        self.lock = asyncio.Lock()
        self.waiting_events = 0
        self.waiting_bytes = 0

    def put(self, request: AppendRequest) -> None:
        """Let a request wait."""
        self.queue.append(request)
        self.waiting_events += len(request.drafts)
        self.waiting_bytes += request.size_bytes

    def take(self, max_events: int, max_bytes: int) -> list[AppendRequest]:
        """The next batch: in order, at least one request, within the bounds."""
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
    """A head, and the thaw (µs, 0 for none) under which it was seen.

    A thaw is an operator's word on what the head is, whichever process did it.
    """

    org_id: int
    head: ChainHead
    thawed_us: int


class SeenHeads:
    """The newest head this process saw of each org; the oldest ones are forgotten.

    A forgotten head costs no safety of the database's own trail: the persisted
    head is always checked by itself; only a rollback behind it goes unseen.
    """

    def __init__(self) -> None:
        self._heads: OrderedDict[int, SeenHead] = OrderedDict()

    def get(self, org_id: int, thawed_us: int) -> ChainHead | None:
        """The head last seen, if it is remembered and no thaw came since."""
        seen = self._heads.get(org_id)
        return None if seen is None or seen.thawed_us != thawed_us else seen.head

    def set(self, seen: SeenHead) -> None:
        """Remember a head that was committed, or found persisted and right."""
        self._heads[seen.org_id] = seen
        self._heads.move_to_end(seen.org_id)
        if len(self._heads) > MAX_REMEMBERED_HEADS:
            self._heads.popitem(last=False)
