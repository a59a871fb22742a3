"""Stores several objects at once, within a bound, and counts the stored ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Self

from ledger.archive.targets import StoredObject, Target
from ledger.archive.writing.sources import Object

PUTS_AT_ONCE: Final = 8
"""Objects written at once; each has about 8 MiB at most, unless a single payload is longer."""


@dataclass(frozen=True)
class ObjectLock:
    """How long an object is locked from the time of writing; 0 days: without a time limit.

    ``legal_hold`` locks it until the hold is released.
    """

    retain_days: int = 0
    legal_hold: bool = False

    def until(self, now_s: float) -> datetime | None:
        """Return the end of retention of an object written at ``now_s`` (POSIX seconds)."""
        if not self.retain_days:
            return None
        return datetime.fromtimestamp(now_s, UTC) + timedelta(days=self.retain_days)


class ObjectWriter:
    """Stores objects below one prefix, several at a time; an async context manager.

    The first failure is raised by a later method or at the end of the block; leaving the block
    by an error cancels the writes in progress. ``objects`` and ``bytes`` count the objects that
    the target has read back.
    """

    def __init__(self, target: Target, prefix: str, policy: ObjectLock, now_s: float) -> None:
        self._target = target
        self._prefix = prefix
        self._until = policy.until(now_s)
        self._hold = policy.legal_hold
        self._slots = asyncio.Semaphore(PUTS_AT_ONCE)
        self._pending: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
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
            for task in self._pending:
                task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)
        if error is None:
            self._raise_failure()

    async def add(self, one: Object) -> None:
        """Start to store an object once a slot is free; return before it is stored."""
        await self._slots.acquire()
        self._raise_failure()
        task = asyncio.create_task(self._put(one))
        self._pending.add(task)
        task.add_done_callback(self._on_done)

    async def drain(self) -> None:
        """Return once all added objects are stored."""
        await asyncio.gather(*self._pending, return_exceptions=True)
        self._raise_failure()

    async def put_pointer(self, one: Object) -> None:
        """Store the new state of a pointer, after all added objects."""
        await self.drain()
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

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._pending.discard(task)
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)

    def _raise_failure(self) -> None:
        if self._failures:
            raise self._failures[0]
