"""Worker processes over pipes: starting them, exchanging messages, ending them.

Workers are subprocesses, not forks, so a worker is small even if its parent is large. Their
stdin is a pipe from the parent, so that they end when the parent ends, even if it is killed.
A message is a body after its 32-bit big-endian length; the callers define the bodies. Secrets
travel in messages only: not in arguments, the environment or files.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from struct import Struct
from typing import IO, Final, NamedTuple

import ledger
from ledger.errors import QuireError

NICENESS: Final = 10
"""The niceness of a worker, so that appends get the processor first."""
_LENGTH = Struct(">I")


class WorkerKind(NamedTuple):
    """One kind of worker: each runs ``module``, and imports that module's packages only.

    ``name`` is the name in messages, like "a verification worker". ``error`` makes the error that
    is raised when a worker is lost. A worker whose answer has more than ``answer_bytes_max``
    bytes counts as lost.
    """

    module: str
    name: str
    error: Callable[[str], QuireError]
    answer_bytes_max: int


class WorkerProcess:
    """One worker process, for one caller at a time. Methods raise its kind's error if it is lost."""

    def __init__(self, kind: WorkerKind, process: asyncio.subprocess.Process) -> None:
        self._kind = kind
        self._process = process

    @classmethod
    async def start(cls, kind: WorkerKind) -> WorkerProcess:
        """Start a process, which waits for its first message."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            kind.module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(ledger.__file__).parents[1])},
        )
        return cls(kind, process)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def send(self, *parts: bytes) -> None:
        """Send one message, whose body these parts make."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(_LENGTH.pack(sum(map(len, parts))))
            for part in parts:
                stdin.write(part)
            await stdin.drain()
        except (ConnectionError, RuntimeError):
            raise await self.lost() from None

    async def receive(self) -> bytes:
        """Receive the body of the worker's next message."""
        stdout = self._process.stdout
        assert stdout is not None
        body = await receive(stdout, self._kind.answer_bytes_max)
        if body is None:
            raise await self.lost()
        return body

    async def end(self) -> None:
        """Kill the process and wait until it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def lost(self) -> QuireError:
        """End the process; returns the error to raise for a worker that ended before its work."""
        await self.end()
        return self._kind.error(
            f"{self._kind.name} ended (status {self._process.returncode}) before its work was "
            "done; check whether it was killed, or the machine ran out of memory"
        )


@asynccontextmanager
async def worker_processes(kind: WorkerKind, count: int) -> AsyncIterator[list[WorkerProcess]]:
    """Start ``count`` processes of a kind; all of them are ended when the block ends."""
    workers: list[WorkerProcess] = []
    try:
        for _ in range(count):
            workers.append(await WorkerProcess.start(kind))  # noqa: PERF401 - if one fails, end all
        yield workers
    finally:
        await asyncio.shield(asyncio.gather(*(worker.end() for worker in workers)))


def frame(body: bytes) -> bytes:
    """One message as it is sent: its length and its body."""
    return _LENGTH.pack(len(body)) + body


async def receive(stream: asyncio.StreamReader, bytes_max: int) -> bytes | None:
    """Receive the body of the next message; None if the pipe is closed or the body too large."""
    try:
        (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        return None if length > bytes_max else await stream.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def read_message(stream: IO[bytes]) -> bytes | None:
    """Read the body of the next message without an event loop; None at the end of the stream."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None


def answers_of_worker() -> int:
    """Set up a worker, once: returns a descriptor for answers; other output goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers
    os.nice(NICENESS)
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers
