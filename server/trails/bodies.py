"""Cancels request bodies that do not arrive in time.

One poll a second over all bodies being read costs nothing per request; one timer per body would
cost a tenth of an append.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ledger.errors import QueueFull

LIMIT_S: Final = 30.0
POLL_INTERVAL_S: Final = 1.0
SMALL_BYTES: Final = 65_536
"""Bodies up to this size reserve no memory."""
ORG_BYTES: Final = 64 << 20
TOTAL_BYTES: Final = 512 << 20
"""Announced bytes of large bodies that may arrive at once: for one org, for all."""


class BodyReads:
    """The tasks that read a body, with their start times; late ones are cancelled."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self._reading: dict[asyncio.Task[object], float] = {}
        self._reserved: Counter[int] = Counter()
        self._late: set[asyncio.Task[object]] = set()

    @contextmanager
    def room(self, org_id: int, size_bytes: int) -> Iterator[None]:
        """Reserve memory for a large body of an org until it is parsed. Raises QueueFull."""
        mine = self._reserved[org_id] + size_bytes
        if mine > ORG_BYTES and self._reserved[org_id]:
            raise QueueFull("too many large requests of this org arrive at once; retry shortly")
        if self._reserved.total() + size_bytes > TOTAL_BYTES:
            raise QueueFull("too many large requests arrive at once; retry shortly", everyone=True)
        self._reserved[org_id] = mine
        try:
            yield
        finally:
            self._reserved[org_id] -= size_bytes
            if not self._reserved[org_id]:
                del self._reserved[org_id]

    def begin(self, task: asyncio.Task[object]) -> None:
        """Record that a task starts to read a body."""
        self._reading[task] = time.monotonic()

    def end(self, task: asyncio.Task[object]) -> bool:
        """Record that a task stopped reading; return True if it was cancelled for being late."""
        self._reading.pop(task, None)
        if task not in self._late:
            return False
        self._late.discard(task)
        return True

    async def watch(self) -> None:
        """Cancel late readers; runs until cancelled."""
        while True:
            await asyncio.sleep(min(POLL_INTERVAL_S, self.limit_s / 2))
            oldest = time.monotonic() - self.limit_s
            for task, since in list(self._reading.items()):
                if since < oldest and task not in self._late:
                    self._late.add(task)
                    task.cancel()
