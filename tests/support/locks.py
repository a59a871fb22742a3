"""Locks in a database that a test holds while it looks at who waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from ledger.storage.database import Connection
from tests.support.appending import superuser
from tests.support.clusters import Database
from tests.support.waiting import PATIENCE_S


@contextmanager
def held(
    database: Database,
    take: Callable[[Connection], Awaitable[object]],
    release: threading.Event | None = None,
) -> Iterator[None]:
    """Hold the locks that ``take`` takes, until the block ends or ``release`` is set."""
    locked, free = threading.Event(), release or threading.Event()

    async def hold() -> None:
        async with superuser(database) as connection, connection.transaction():
            await take(connection)
            locked.set()
            await asyncio.to_thread(free.wait, PATIENCE_S)

    holder = threading.Thread(target=lambda: asyncio.run(hold()))
    holder.start()
    try:
        assert locked.wait(PATIENCE_S)
        yield
    finally:
        free.set()
        holder.join()
