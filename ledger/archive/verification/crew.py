"""The workers of an archive's verification; each opens the target itself and checks its work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from ledger import errors
from ledger.archive.verification.blocks import BlockReport
from ledger.archive.verification.worker import (
    ArchiveWorker,
    ArchiveWorkerSetup,
    TargetFailure,
    Work,
    decode_answer,
    encode,
)
from ledger.errors import ArchiveError, ArchiveUnavailable
from ledger.workers import WorkerKind, WorkerProcess, worker_processes

WORKERS: Final = WorkerKind(
    "ledger.archive.verification.worker",
    "a worker process of the archive verification",
    ArchiveUnavailable,
    64 << 20,
)


class Crew:
    """Distributes work to workers, one piece to each at a time."""

    def __init__(self, members: list[Callable[[Work], Awaitable[BlockReport]]]) -> None:
        self._free: asyncio.Queue[Callable[[Work], Awaitable[BlockReport]]] = asyncio.Queue()
        for member in members:
            self._free.put_nowait(member)

    async def check(self, work: Work) -> BlockReport:
        """Check a piece of work on the next free worker.

        Raises the target's errors, and ArchiveUnavailable for a lost process.
        """
        member = await self._free.get()
        try:
            return await member(work)
        finally:
            self._free.put_nowait(member)


@asynccontextmanager
async def crew(setup: ArchiveWorkerSetup, processes: int) -> AsyncIterator[Crew]:
    """Start a crew of worker processes; with 0 of them, of one thread of this process."""
    if processes == 0:
        async with _thread(setup) as one_thread:
            yield one_thread
        return
    async with worker_processes(WORKERS, processes) as workers:
        for worker in workers:
            await worker.send(encode(setup))
        yield Crew([_Member(worker).check for worker in workers])


@asynccontextmanager
async def _thread(setup: ArchiveWorkerSetup) -> AsyncIterator[Crew]:
    """Start a crew of one thread, which owns the worker's event loop."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:
        worker = await loop.run_in_executor(thread, ArchiveWorker, setup)

        async def check(work: Work) -> BlockReport:
            return await loop.run_in_executor(thread, worker.check, work)

        try:
            yield Crew([check])
        finally:
            await loop.run_in_executor(thread, worker.close)


class _Member:
    """One worker process, for one caller at a time."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process

    async def check(self, work: Work) -> BlockReport:
        await self._process.send(encode(work))
        try:
            answer: BlockReport | TargetFailure = decode_answer(await self._process.receive())
        except msgspec.MsgspecError:
            raise await self._process.lost() from None
        if isinstance(answer, TargetFailure):
            raise _error(answer)
        return answer


def _error(failure: TargetFailure) -> ArchiveError:
    kind = getattr(errors, failure.kind, None)
    if isinstance(kind, type) and issubclass(kind, ArchiveError):
        return kind(failure.message)
    return ArchiveError(failure.message)
