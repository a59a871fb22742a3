"""Measures how long the event loop of a server in this process stands still."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Final, Self

TICK_S: Final = 0.001
QUIET_LOOP_S: Final = 0.0116
"""The time of a million rounds of an empty loop on the quiet machine of the benchmark."""


def slowness() -> float:
    """Return how much slower this machine is than the quiet one, at least 1."""
    started = time.thread_time()
    for _ in range(1_000_000):
        pass
    return max((time.thread_time() - started) / QUIET_LOOP_S, 1.0)


class LoopDelay:
    """The longest pause between two ticks of a loop while the block runs.

    ``cpu_s`` is the processor time of the loop's thread in one pause, which other processes
    do not stretch; ``wall_s`` is the pause itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.cpu_s = self.wall_s = 0.0
        self._loop = loop
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        self._loop.call_soon_threadsafe(self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        done = threading.Event()
        self._loop.call_soon_threadsafe(done.set)
        assert done.wait(60), "the loop stands still"

    def _begin(self) -> None:
        self._cpu, self._wall = time.thread_time(), time.monotonic()
        self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        cpu, wall = time.thread_time(), time.monotonic()
        self.cpu_s = max(self.cpu_s, cpu - self._cpu)
        self.wall_s = max(self.wall_s, wall - self._wall - TICK_S)
        if not self._stopped.is_set():
            self._begin()
