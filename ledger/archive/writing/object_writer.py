"""Storing many objects at once, within bounds, and counting those that are stored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Self

from ledger.archive.targets import StoredObject, Target
from ledger.archive.writing.sources import Object

PUTS_AT_ONCE: Final = 8
"""Objects on their way: each has some 8 MiB at most, where no single payload is longer."""


@dataclass(frozen=True)
class ObjectLock:
    """How long an object is locked for, from when it is written; 0 days: not by time."""

    retain_days: int = 0
    legal_hold: bool = False

    def until(self, now_s: float) -> datetime | None:
        """The end of the retention of what is written now (POSIX seconds)."""
        if not self.retain_days:
            return None
        return datetime.fromtimestamp(now_s, UTC) + timedelta(days=self.retain_days)


class ObjectWriter:
    """Stores objects below one prefix, several at a time, while the block lasts.

    The first that fails ends the others and is raised. ``objects`` and ``bytes`` count what the
    target has read back.
    """

    def __init__(self, target: Target, prefix: str, policy: ObjectLock, now_s: float) -> None:
        self._target = target
        self._prefix = prefix
        self._until = policy.until(now_s)
        self._hold = policy.legal_hold
        self._room = asyncio.Semaphore(PUTS_AT_ONCE)
        self._under_way: set[asyncio.Task[None]] = set()
        self._failed: list[BaseException] = []
        self.objects = 0
        self.bytes = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            for task in self._under_way:
                task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        if error is None:
            self._tell()

    async def add(self, one: Object) -> None:
        """Store one when there is room; returns before it is stored."""
        await self._room.acquire()
        self._tell()
        task = asyncio.create_task(self._put(one))
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    async def settled(self) -> None:
        """Return once all that was added is stored."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        self._tell()

    async def point(self, one: Object) -> None:
        """Store the new state of a pointer, after everything else."""
        await self.settled()
        self._count(
            await self._target.put_pointer(
                f"{self._prefix}/{one.key}", one.data, self._until, self._hold
            )
        )

    async def _put(self, one: Object) -> None:
        stored = await self._target.put(
            f"{self._prefix}/{one.key}", one.data, self._until, self._hold
        )
        self._count(stored)

    def _count(self, stored: StoredObject) -> None:
        self.objects += 1
        self.bytes += stored.size

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed.append(error)

    def _tell(self) -> None:
        if self._failed:
            raise self._failed[0]
