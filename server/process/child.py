"""A process of the server beside its workers, kept running: the signer, the archiver.

Should it die it is started again. Nothing that a caller waits for depends on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop

from ledger.core.lasting import Lasting
from server.process.context import CONTEXT, ProcessContext
from server.process.logs import configure
from server.settings import Settings

log = structlog.get_logger("quire")

AGAIN_S: Final = 1.0
"""Between the death of a process and the next."""
STOP_S: Final = 15.0
RUNS_S: Final = 30.0
"""A process that ran for so long has not ended for the reason of the one before."""


@contextmanager
def kept_running(name: str, module: str, settings: Settings, database_url: str) -> Iterator[None]:
    """Keep one process running for as long as the block lasts; it is stopped in order after.

    ``module`` has its ``main``; ``name`` stands in the log.
    """
    told = ProcessContext(settings, database_url, os.getpid()).spelled()
    child = _Child(name, f"from {module} import main; main()", told)
    thread = threading.Thread(target=child.keep, name=f"{name}-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        child.stop.set()
        thread.join()


class _Child:
    def __init__(self, name: str, code: str, told: str) -> None:
        self._name = name
        self._code = code
        self._told = told
        self._not_started = Lasting("a process can't be started", "a process is started again")
        self._ends = Lasting(
            "a process ended and is started again", "a process runs again", quiet_s=RUNS_S
        )
        self.stop = threading.Event()

    def keep(self) -> None:
        while not self.stop.is_set():
            try:
                process = self._start()
            except OSError as error:  # no memory, or no process left to be had
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
        """Report its end, which is nothing to worry about where somebody asked for it."""
        if code == 0:
            log.info("a process ended in order and is started again", process=self._name)
        else:
            self._ends.failed(log.error, _ending(code), process=self._name)

    def _start(self) -> subprocess.Popen[bytes]:
        # What its parent imports from and nothing else: without -P it would look into whatever
        # directory the server was started in.
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        return subprocess.Popen(
            (sys.executable, "-P", "-c", self._code),
            env={**os.environ, CONTEXT: self._told, "PYTHONPATH": path},
            # A group of its own: the Ctrl-C of a terminal goes to the supervisor, which stops it.
            start_new_session=True,
        )


def _ending(code: int) -> str:
    """How a process ended, for the log."""
    return f"it was killed by signal {-code}" if code < 0 else f"its exit code was {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
        return
    process.kill()
    process.wait()


def work_as_told(work: Callable[[Settings, str], Coroutine[Any, Any, None]]) -> None:
    """The process itself, from its start: work with the settings and the database it was told.

    Ends in order at SIGTERM, SIGINT, or when its supervisor is gone.
    """
    context = ProcessContext.told()
    configure(context.settings)
    context.follow()
    uvloop.run(_until_ended(work(context.settings, context.database_url)))


async def _until_ended(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
