"""Keeps the processes beside the workers running: signer, archiver, indexer, retention.

A process that dies is started again. No request waits for these processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop

from ledger.core.lasting import Lasting
from ledger.storage.lock_waits import GrowingIntervals
from server.process.context import ProcessContext
from server.process.logs import configure
from server.settings import Settings

log = structlog.get_logger("quire")

AGAIN_S: Final = 1.0
"""Pause between the death of a process and its next start."""
STOP_S: Final = 15.0
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
    context = ProcessContext(settings.without_logins(), database_url, os.getpid(), login_url)
    child = _Child(name, f"from {module} import main; main()", context)
    thread = threading.Thread(target=child.keep, name=f"{name}-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        child.stop.set()
        thread.join()


class _Child:
    def __init__(self, name: str, code: str, context: ProcessContext) -> None:
        self._name = name
        self._code = code
        self._context = context
        self._not_started = Lasting("a process can't be started", "a process is started again")
        self._ends = Lasting(
            "a process ended and is started again", "a process runs again", quiet_s=RUNS_S
        )
        self.stop = threading.Event()

    def keep(self) -> None:
        while not self.stop.is_set():
            try:
                process = self._start()
            except OSError as error:  # out of memory, or the limit of processes is reached
                self._not_started.failed(log.error, str(error), process=self._name)
                self.stop.wait(AGAIN_S)
                continue
            self._not_started.fine()
            while process.poll() is None and not self.stop.is_set():
                self.stop.wait(0.1)
                self._ends.fine()
            if process.poll() is None:
                _end(process)
            elif not self.stop.is_set():
                self._ended(process.returncode)
                self.stop.wait(AGAIN_S)

    def _ended(self, code: int) -> None:
        """Log that the process ended: an error unless it was stopped in order."""
        if code == 0:
            log.info("a process ended in order and is started again", process=self._name)
        else:
            self._ends.failed(log.error, _reason_of_end(code), process=self._name)

    def _start(self) -> subprocess.Popen[bytes]:
        # The child imports from the same places as its parent: without -P also from the
        # directory in which the server was started.
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        return subprocess.Popen(
            (sys.executable, "-P", "-c", self._code),
            env={**self._context.environment(), "PYTHONPATH": path},
            # A group of its own: the Ctrl-C of a terminal goes to the supervisor, which stops it.
            start_new_session=True,
        )


def _reason_of_end(code: int) -> str:
    """Describe how a process ended, for the log."""
    return f"it was killed by signal {-code}" if code < 0 else f"its exit code was {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
        return
    process.kill()
    process.wait()


def run_child(work: Callable[[ProcessContext], Coroutine[Any, Any, None]]) -> None:
    """Run ``work`` in the child process, with its context.

    Ends in order at SIGTERM, at SIGINT, or when its supervisor ended.
    """
    context = ProcessContext.from_environment()
    configure(context.settings)
    context.follow()
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
