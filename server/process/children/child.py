"""Keeps the processes beside the workers running: signer, archiver, indexer, retention.

A process that dies is started again. No request waits for these processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any, Final

import structlog
import uvloop

from ledger.core.lasting import Lasting
from ledger.storage.lock_waits import GrowingIntervals
from server.process.children import forking
from server.process.children.context import STOP_S, ProcessContext, follow_supervisor
from server.process.children.forking import ForkedProcess
from server.process.logs import configure
from server.settings import Settings

log = structlog.get_logger("quire")

AGAIN_S: Final = 1.0
"""Pause between the death of a process and its next start."""
LOOK_S: Final = 1.0
"""How often a running process is looked at; its end is noticed at once."""
RUNS_S: Final = 30.0
"""A process that ran for this long did not end for the same reason as the one before."""


@contextmanager
def kept_running(
    name: str, module: str, settings: Settings, database_url: str, login_url: str | None = None
) -> Iterator[None]:
    """Keep one process running while the block runs; stop it in order afterwards.

    ``module`` has its ``main``; ``name`` is its name in the log; ``login_url`` is that of the login
    that this process alone has.
    """
    child = _Child(name, module, ProcessContext(settings.without_logins(), database_url, login_url))
    thread = threading.Thread(target=child.keep, name=f"{name}-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        child.stop.set()
        thread.join()


class _Stop:
    """Says once that a process is to stop; can be waited for together with its end."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()

    def set(self) -> None:
        self._writer.close()

    def within(self, seconds: float, process: ForkedProcess | None = None) -> bool:
        """Wait until it is said, the process ended, or the time is over; return whether it is said."""
        ends = [] if process is None else [process.sentinel]
        return self._reader in wait([self._reader, *ends], seconds)


class _Child:
    def __init__(self, name: str, module: str, context: ProcessContext) -> None:
        self._name = name
        self._module = module
        self._context = context
        self._not_started = Lasting("a process can't be started", "a process is started again")
        self._ends = Lasting(
            "a process ended and is started again", "a process runs again", quiet_s=RUNS_S
        )
        self.stop = _Stop()

    def keep(self) -> None:
        while not self.stop.within(0):
            try:
                process = forking.start(self._name, self._module, self._context)
            except (OSError, EOFError) as error:  # out of memory, or of processes
                self._not_started.failed(log.error, str(error), process=self._name)
                self.stop.within(AGAIN_S)
                continue
            self._not_started.fine()
            while process.is_alive() and not self.stop.within(LOOK_S, process):
                self._ends.fine()
            if process.is_alive():
                _end(process)
            elif not self.stop.within(0):
                self._ended(process.exitcode or 0)
                self.stop.within(AGAIN_S)

    def _ended(self, code: int) -> None:
        """Log that the process ended: an error unless it was stopped in order."""
        if code == 0:
            log.info("a process ended in order and is started again", process=self._name)
        else:
            self._ends.failed(log.error, _reason_of_end(code), process=self._name)


def _reason_of_end(code: int) -> str:
    """Describe how a process ended, for the log."""
    return f"it was killed by signal {-code}" if code < 0 else f"its exit code was {code}"


def _end(process: ForkedProcess) -> None:
    process.terminate()
    process.join(STOP_S)
    if process.is_alive():
        process.kill()
        process.join()


def run_child(
    context: ProcessContext, work: Callable[[ProcessContext], Coroutine[Any, Any, None]]
) -> None:
    """Run ``work`` in the child process, with its context.

    Ends in order at SIGTERM, at SIGINT, or when its supervisor ended.
    """
    configure(context.settings)
    follow_supervisor()
    uvloop.run(_until_ended(work(context)))


async def _until_ended(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def until_leading(
    lead: Callable[[], Awaitable[bool]],
    leader: Callable[[], Awaitable[str]],
    *,
    work: str,
    application: str,
    again_s: float,
) -> bool:
    """Wait until this process holds the lock of its work; return whether another one held it.

    Says who holds it, after a while and at growing intervals. Another process of the same
    ``application`` may, any other session should not.
    """
    waiting, waited = GrowingIntervals(), False
    while not await lead():
        waited = True
        if waiting.due():
            held_by = await leader()
            report = log.info if f'application "{application}"' in held_by else log.warning
            report(
                f"another process {work}, and this one waits for its lock",
                held_by=held_by,
                seconds=round(waiting.lasted_s),
            )
        await asyncio.sleep(again_s)
    return waited
