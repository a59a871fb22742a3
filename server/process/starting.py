"""Opens the services of a worker, and waits while the database restarts.

A worker is also started when another one died, at any moment of the database: one that gave up
would end the whole server, as uvicorn takes it for one that can never start.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import structlog

from ledger.core.lasting import GRACE_S, Lasting
from ledger.errors import DatabaseAway
from server.trails.services import Services

log = structlog.get_logger("quire")

AGAIN_S: Final = 0.5


async def opened(open_services: Callable[[], Awaitable[Services]]) -> Services:
    """Return the services of this process. Raises DatabaseAway only once a signal ends the process."""
    away = Lasting("a worker waits for the database", "a worker starts", grace_s=GRACE_S)
    with _signalled() as is_ending:
        while True:
            try:
                return await open_services()
            except DatabaseAway as error:
                if is_ending():
                    raise
                away.failed(log.warning, str(error), early=log.info)
                await asyncio.sleep(AGAIN_S)


@contextmanager
def _signalled() -> Iterator[Callable[[], bool]]:
    """Tell whether SIGTERM or SIGINT came, which uvicorn handles only after the start."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        then = before[number]
        if callable(then):
            then(number, frame)

    before = {
        int(number): signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
