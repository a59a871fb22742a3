"""The signal that ends a server, with one process or several."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from uvicorn.supervisors import Multiprocess

from server.trails.own.server_runs import Reason


class EndSignal:
    """The signal that ends the server, once there is one."""

    number: int | None = None

    @property
    def reason(self) -> Reason:
        """Return why the server ends."""
        if self.number == signal.SIGTERM:
            return "SIGTERM"
        return "SIGINT" if self.number == signal.SIGINT else "failed"


@contextmanager
def ended_in_order() -> Iterator[EndSignal]:
    """Let SIGTERM and SIGINT unwind the stack, so that everything started here is stopped here.

    Yields which of them came.

    While uvicorn serves, it handles them, drains, and raises them again at the end: by default
    that would kill the process at once and leave its PostgreSQL running.
    """

    ending = EndSignal()

    def end(number: int, _frame: FrameType | None) -> None:
        ending.number = number
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(0)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Supervisor(Multiprocess):
    """The supervisor of the workers, which says by which signal it was ended."""

    def __init__(
        self, config: uvicorn.Config, listeners: list[socket.socket], ending: EndSignal
    ) -> None:
        super().__init__(config, listeners)
        self._ending = ending

    def handle_int(self) -> None:
        self._ending.number = signal.SIGINT
        super().handle_int()

    def handle_term(self) -> None:
        self._ending.number = signal.SIGTERM
        super().handle_term()
