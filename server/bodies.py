"""Request bodies that must arrive in time.

One look a second over all bodies under way costs nothing per request; a timer
of its own for each would cost a tenth of an append.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

LIMIT_S: Final = 30.0
LOOK_S: Final = 1.0


class Bodies:
    """The tasks that read a body now, and since when; late ones are cancelled."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self._reading: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()

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
            await asyncio.sleep(min(LOOK_S, self.limit_s / 2))
            oldest = time.monotonic() - self.limit_s
            for task, since in list(self._reading.items()):
                if since < oldest and task not in self._late:
                    self._late.add(task)
                    task.cancel()
