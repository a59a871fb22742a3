"""Worker processes of a verification: each opens the target itself and checks what it is given.

They are subprocesses and no forks, so a worker is small whatever started it, and their stdin is
a pipe of ours, so that they end when we do, however we end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

import ledger
from ledger import errors
from ledger.archive.verification.blocks import Checked
from ledger.archive.verification.worker import (
    FRAME,
    Failure,
    Gear,
    Work,
    Worker,
    decode_answer,
    pack,
)
from ledger.errors import ArchiveError, ArchiveUnavailable

MODULE: Final = "ledger.archive.verification.worker"
ANSWER_BYTES_MAX: Final = 64 << 20


class Crew:
    """Checks as many pieces of work at a time as there are workers."""

    def __init__(self, members: list[Callable[[Work], Awaitable[Checked]]]) -> None:
        self._free: asyncio.Queue[Callable[[Work], Awaitable[Checked]]] = asyncio.Queue()
        for member in members:
            self._free.put_nowait(member)

    async def check(self, work: Work) -> Checked:
        """What is found. Raises the target's errors, ArchiveUnavailable for a lost process."""
        member = await self._free.get()
        try:
            return await member(work)
        finally:
            self._free.put_nowait(member)


@asynccontextmanager
async def crew(gear: Gear, processes: int) -> AsyncIterator[Crew]:
    """So many processes; with 0 the work is done in a thread of this one."""
    if processes == 0:
        async with _thread(gear) as alone:
            yield alone
        return
    members: list[_Member] = []
    try:
        for _ in range(processes):
            members.append(await _Member.start(gear))  # noqa: PERF401 - those so far are ended
        yield Crew([member.check for member in members])
    finally:
        for member in members:
            await member.end()


@asynccontextmanager
async def _thread(gear: Gear) -> AsyncIterator[Crew]:
    """One thread, to which the worker's event loop belongs."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:
        worker = await loop.run_in_executor(thread, Worker, gear)

        async def check(work: Work) -> Checked:
            return await loop.run_in_executor(thread, worker.check, work)

        try:
            yield Crew([check])
        finally:
            await loop.run_in_executor(thread, worker.close)


class _Member:
    """One worker process, for one caller at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, gear: Gear) -> _Member:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            MODULE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(ledger.__file__).parents[1])},
        )
        member = cls(process)
        await member._send(pack(gear))
        return member

    async def check(self, work: Work) -> Checked:
        await self._send(pack(work))
        stdout = self._process.stdout
        assert stdout is not None
        try:
            (length,) = FRAME.unpack(await stdout.readexactly(FRAME.size))
            if length > ANSWER_BYTES_MAX:
                raise await self._lost()
            answer: Checked | Failure = decode_answer(await stdout.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.MsgspecError):
            raise await self._lost() from None
        if isinstance(answer, Failure):
            raise _error(answer)
        return answer

    async def end(self) -> None:
        """End the process, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _send(self, data: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(data)
            await stdin.drain()
        except (ConnectionError, RuntimeError):
            raise await self._lost() from None

    async def _lost(self) -> ArchiveUnavailable:
        await self.end()
        return ArchiveUnavailable(
            f"a process that verified the archive ended (status {self._process.returncode}) before "
            "its work was done; was it killed, or is the machine out of memory?"
        )


def _error(failure: Failure) -> ArchiveError:
    kind = getattr(errors, failure.kind, None)
    if isinstance(kind, type) and issubclass(kind, ArchiveError):
        return kind(failure.message)
    return ArchiveError(failure.message)
