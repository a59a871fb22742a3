"""The signer's process, kept running beside the workers.

It alone holds the log's signing keys. Should it die it is started again; appends
do not wait for it, only checkpoints do.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from server.context import CONTEXT, ProcessContext
from server.settings import Settings

log = structlog.get_logger("quire")

AGAIN_S: Final = 1.0
"""Between the death of a signer and the next."""
STOP_S: Final = 15.0
_COMMAND: Final = (sys.executable, "-P", "-c", "from server.signer import main; main()")


@contextmanager
def signing(settings: Settings, database_url: str) -> Iterator[None]:
    """Keep one signer running for as long as the block lasts; it is stopped in order after."""
    if not settings.checkpoints:
        yield
        return
    told = ProcessContext(settings, database_url, os.getpid()).spelled()
    stop = threading.Event()
    thread = threading.Thread(target=_keep, args=(told, stop), name="signer-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _keep(told: str, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            process = _start(told)
        except OSError as error:  # no memory, or no process left to be had
            log.error("the signer can't be started", reason=str(error))  # noqa: TRY400
            stop.wait(AGAIN_S)
            continue
        while process.poll() is None and not stop.is_set():
            stop.wait(0.1)
        if process.poll() is None:
            _end(process)
        elif not stop.is_set():
            log.error("the signer ended and is started again", code=process.returncode)
            stop.wait(AGAIN_S)


def _start(told: str) -> subprocess.Popen[bytes]:
    # What its parent imports from and nothing else: without -P it would look into whatever
    # directory the server was started in.
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return subprocess.Popen(
        _COMMAND,
        env={**os.environ, CONTEXT: told, "PYTHONPATH": path},
        # A group of its own: the Ctrl-C of a terminal goes to the supervisor, which stops it.
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
        return
    process.kill()
    process.wait()
