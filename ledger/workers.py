"""Worker processes over pipes: started, asked, ended.

They are subprocesses and no forks, so a worker is small whatever started it, and their
stdin is a pipe of ours, so that they end when we do, however we end. A message is a body
behind its 32-bit big-endian length; what the bodies mean is the callers' affair. Secrets
travel in messages and nowhere else: not in arguments, the environment or files.
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
"""Of a worker: appends come first."""
_LENGTH = Struct(">I")


class WorkerKind(NamedTuple):
    """Workers of one kind: ``module`` is run by each, with its packages and nothing else.

    ``name`` is what messages call one, as "a verification worker"; ``error`` is raised with a
    message where one is lost. An answer of more than ``answer_bytes_max`` bytes loses it.
    """

    module: str
    name: str
    error: Callable[[str], QuireError]
    answer_bytes_max: int


class WorkerProcess:
    """One worker process, for one caller at a time. Methods raise its kind's error where it is lost."""

    def __init__(self, kind: WorkerKind, process: asyncio.subprocess.Process) -> None:
        self._kind = kind
        self._process = process

    @classmethod
    async def start(cls, kind: WorkerKind) -> WorkerProcess:
        """Start a process; it waits for its first message."""
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

    async def send(self, body: bytes) -> None:
        """Send one message."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(frame(body))
            await stdin.drain()
        except (ConnectionError, RuntimeError):
            raise await self.lost() from None

    async def receive(self) -> bytes:
        """The body of its next message."""
        stdout = self._process.stdout
        assert stdout is not None
        body = await receive(stdout, self._kind.answer_bytes_max)
        if body is None:
            raise await self.lost()
        return body

    async def end(self) -> None:
        """End the process, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def lost(self) -> QuireError:
        """End the process; returns the error that says that it ended before its work was done."""
        await self.end()
        return self._kind.error(
            f"{self._kind.name} ended (status {self._process.returncode}) before its work was "
            "done; was it killed, or is the machine out of memory?"
        )


@asynccontextmanager
async def worker_processes(kind: WorkerKind, count: int) -> AsyncIterator[list[WorkerProcess]]:
    """So many processes of a kind; none is left when the block ends."""
    workers: list[WorkerProcess] = []
    try:
        for _ in range(count):
            workers.append(await WorkerProcess.start(kind))  # noqa: PERF401 - those so far are ended
        yield workers
    finally:
        await asyncio.shield(asyncio.gather(*(worker.end() for worker in workers)))


def frame(body: bytes) -> bytes:
    """One message as it travels."""
    return _LENGTH.pack(len(body)) + body


async def receive(stream: asyncio.StreamReader, bytes_max: int) -> bytes | None:
    """The body of the next message; None where the other side is gone, or sends too much."""
    try:
        (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        return None if length > bytes_max else await stream.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def read_message(stream: IO[bytes]) -> bytes | None:
    """The body of the next message, read without an event loop; None at the end."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None


def answers_of_worker() -> int:
    """Called once by a worker: a descriptor for its answers; what else it prints goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started us
    os.nice(NICENESS)
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers
