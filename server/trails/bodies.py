"""Request bodies that must arrive in time.

One look a second over all bodies under way costs nothing per request; a timer
of its own for each would cost a tenth of an append.
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
"""Bodies up to this size need no room of their own."""
ORG_BYTES: Final = 64 << 20
TOTAL_BYTES: Final = 512 << 20
"""Large bodies that may arrive at once, by what they announce: of one org, of all."""


class BodyReads:
    """The tasks that read a body now, and since when; late ones are cancelled."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self._reading: dict[asyncio.Task[object], float] = {}
        self._held: Counter[int] = Counter()
        self._late: set[asyncio.Task[object]] = set()

    @contextmanager
    def room(self, org_id: int, size_bytes: int) -> Iterator[None]:
        """Memory for a large body of an org, until it is read and parsed. Raises QueueFull."""
        mine = self._held[org_id] + size_bytes
        if mine > ORG_BYTES and self._held[org_id]:
            raise QueueFull("too many large requests of this org arrive at once; retry shortly")
        if self._held.total() + size_bytes > TOTAL_BYTES:
            raise QueueFull("too many large requests arrive at once; retry shortly", everyone=True)
        self._held[org_id] = mine
        try:
            yield
        finally:
            self._held[org_id] -= size_bytes
            if not self._held[org_id]:
                del self._held[org_id]

    def begin(self, task: asyncio.Task[object]) -> None:
        """This task starts to read a body."""
        self._reading[task] = time.monotonic()

    def end(self, task: asyncio.Task[object]) -> bool:
        """This task reads no more; True where it was cancelled for being late."""
        self._reading.pop(task, None)
        if task not in self._late:
            return False
        self._late.discard(task)
        return True

    async def watch(self) -> None:
        """Cancel late readers, for ever."""
        while True:
            await asyncio.sleep(min(POLL_INTERVAL_S, self.limit_s / 2))
            oldest = time.monotonic() - self.limit_s
            for task, since in list(self._reading.items()):
                if since < oldest and task not in self._late:
                    self._late.add(task)
                    task.cancel()
