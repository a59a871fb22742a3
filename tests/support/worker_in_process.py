"""A verification worker in the tests' own process: thousands of verifications start none.

It is the product's worker, with the same messages; only its pipes end in this process.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from ledger.core.verification.work.crew import MAX_MESSAGE_BYTES, CrewMember, VerificationSetup
from ledger.core.verification.worker import Worker
from ledger.workers import WorkerProcess, frame, receive

PIPE_BYTES = 1 << 20
"""Room for the longest answer: the worker writes it while nobody reads."""


class WorkerInProcess:
    """Exchanges messages with a worker, as a WorkerProcess does."""

    def __init__(self, messages: asyncio.StreamReader, answers: asyncio.StreamReader) -> None:
        self._messages = messages
        self._answers = answers

    async def send(self, body: bytes) -> None:
        self._messages.feed_data(frame(body))

    async def receive(self) -> bytes:
        body = await receive(self._answers, MAX_MESSAGE_BYTES)
        assert body is not None
        return body


@asynccontextmanager
async def crew_in_process(_size: int, setup: VerificationSetup) -> AsyncIterator[list[CrewMember]]:
    """A crew of one worker, in the place of ``crew_of``."""
    readable, writable = os.pipe()
    fcntl.fcntl(writable, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    messages, answers = asyncio.StreamReader(), asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(answers), os.fdopen(readable, "rb")
    )
    working = asyncio.create_task(Worker(messages, writable).run())
    try:
        member = CrewMember(cast("WorkerProcess", WorkerInProcess(messages, answers)))
        await member.set_up(setup)
        yield [member]
    finally:
        messages.feed_eof()
        await working
        transport.close()
        os.close(writable)
