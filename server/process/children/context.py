"""The context that the supervisor passes to the processes it starts."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import wait
from typing import Final

import msgspec

from server.settings import Settings

CONTEXT: Final = "LEDGER_WORKER"
"""The environment variable that carries the context."""
WATCH_S: Final = 0.5
STOP_S: Final = 15.0
"""A process that was told to stop and still runs after this time is killed."""

_supervisor: int | None = None


class ProcessContext(msgspec.Struct):
    """The settings of a process, and its database.

    ``login_url`` is the URL of the login that this process alone has, where it has one.
    """

    settings: Settings
    database_url: str
    login_url: str | None = None

    def encoded(self) -> str:
        """Return the value of the environment variable: ASCII for any bytes of paths and keys."""
        return json.dumps(msgspec.to_builtins(self, enc_hook=str))

    @classmethod
    def from_environment(cls) -> ProcessContext:
        """Return the context of this process."""
        return cls.decoded(os.environ[CONTEXT])

    @classmethod
    def decoded(cls, encoded: str) -> ProcessContext:
        """Return the context that :meth:`encoded` wrote."""
        document = json.loads(encoded)
        return msgspec.convert(document, type=cls, dec_hook=lambda kind, value: kind(value))


def follow_supervisor(draining_s: float = 0.0) -> None:
    """End this process when the one that started it has ended, or its fork server.

    In order; if it takes longer than what it may drain and ``STOP_S``, at once: nobody else would
    end it.
    """
    arguments = (_sentinel(), os.getppid(), draining_s + STOP_S)
    threading.Thread(target=_watch, args=arguments, name="supervisor-watch", daemon=True).start()


def set_supervisor(sentinel: int) -> None:
    """Set the descriptor that shows that the supervisor ended; in a process of the fork server."""
    global _supervisor  # noqa: PLW0603 - one of each process
    _supervisor = sentinel


def _sentinel() -> int:
    """Return the descriptor that can be read once the supervisor has ended."""
    if _supervisor is not None:
        return _supervisor
    parent = multiprocessing.parent_process()
    assert parent is not None, "this process was not started by a supervisor"
    return parent.sentinel


def _watch(supervisor: int, parent: int, stop_s: float) -> None:
    while os.getppid() == parent and not wait([supervisor], WATCH_S):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(stop_s)
    os.kill(os.getpid(), signal.SIGKILL)
