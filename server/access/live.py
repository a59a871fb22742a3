"""The requests that are being answered, so that those of a revoked key end within a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from ledger.errors import StorageError
from server.access.auth import Principal

POLL_S: Final = 0.25
"""Pause between two looks at all live requests: what the process knows, without a query."""


class LiveRequest:
    """One request: whether it may be broken off, and whether it was because its key ended."""

    __slots__ = ("ended", "interruptible", "principal")

    def __init__(self, principal: Principal, *, interruptible: bool) -> None:
        self.principal = principal
        self.interruptible = interruptible
        self.ended = False


class LiveRequests:
    """The live requests of one process, each with the task that answers it."""

    def __init__(
        self, is_current: Callable[[Principal], bool], catch_up: Callable[[], Awaitable[None]]
    ) -> None:
        self._is_current = is_current
        self._catch_up = catch_up
        self._live: dict[asyncio.Task[object], LiveRequest] = {}
        self._announced = asyncio.Event()

    def add(self, principal: Principal, *, interruptible: bool) -> LiveRequest:
        """Add the request that the current task answers; it is removed when the task ends."""
        task = asyncio.current_task()
        assert task is not None
        live = self._live[task] = LiveRequest(principal, interruptible=interruptible)
        task.add_done_callback(self._forget)
        return live

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._live.pop(task, None)

    def revoked(self) -> None:
        """Look again soon: a revocation was announced."""
        self._announced.set()

    async def watch(self) -> None:
        """End the requests of keys that are no longer valid; runs until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._announced.wait()
            if self._announced.is_set():
                self._announced.clear()
                with contextlib.suppress(StorageError):  # the register is followed each second
                    await self._catch_up()
            self._end_stale()

    def _end_stale(self) -> None:
        for task, live in list(self._live.items()):
            if live.interruptible and not live.ended and not self._is_current(live.principal):
                live.ended = True
                task.cancel()
