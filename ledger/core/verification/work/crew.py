"""Worker processes as the verification sees them: started, asked, ended.

They are subprocesses and not forks, so a worker is small whatever started it,
and their stdin is a pipe of ours, so that they end when we do, however we end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

import ledger
from ledger.core.verification.work.faults import VerificationFailed
from ledger.core.verification.work.segment import Segment, SegmentResult
from ledger.core.verification.work.wire import (
    Advance,
    Failure,
    FromWorker,
    Order,
    Ready,
    ToWorker,
    decode_from_worker,
    pack,
    receive,
)

WORKER_MODULE = "ledger.core.verification.worker"


class CrewMember:
    """One worker process. Every method raises VerificationFailed where it is lost."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> CrewMember:
        """Start a process; :meth:`enlist` gives it its order."""
        packages = str(Path(ledger.__file__).parents[1])
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            WORKER_MODULE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": packages},
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def enlist(self, order: Order) -> None:
        """Hand over the order; returns when the worker has the trail before it."""
        await self._send(order)
        answer = await self._answer()
        if not isinstance(answer, Ready):
            raise VerificationFailed("a verification worker answered out of turn")

    async def check(self, segment: Segment, advance: Callable[[int], None]) -> SegmentResult:
        """Check one segment; ``advance`` is told of rows as they are read."""
        await self._send(segment)
        while not isinstance(answer := await self._answer(), SegmentResult):
            if isinstance(answer, Advance):
                advance(answer.rows)
        return answer

    async def end(self) -> None:
        """End the process, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _send(self, message: ToWorker) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(pack(message))
            await stdin.drain()
        except (ConnectionError, RuntimeError):
            raise await self._lost() from None

    async def _answer(self) -> FromWorker:
        stdout = self._process.stdout
        assert stdout is not None
        body = await receive(stdout)
        if body is None:
            raise await self._lost()
        try:
            answer: FromWorker = decode_from_worker(body)
        except msgspec.MsgspecError as error:
            raise VerificationFailed(f"a verification worker is not understood: {error}") from None
        if isinstance(answer, Failure):
            raise VerificationFailed(f"the trail could not be read: {answer.message}")
        return answer

    async def _lost(self) -> VerificationFailed:
        await self.end()
        return VerificationFailed(
            f"a verification worker ended (status {self._process.returncode}) before its work "
            "was done; was it killed, or is the machine out of memory?"
        )
