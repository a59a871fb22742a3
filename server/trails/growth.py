"""Waiting until signed trees have grown: one look at them for all who wait."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from ledger.core.lasting import GRACE_S, Lasting
from ledger.errors import StorageError
from ledger.storage import history
from ledger.storage.database import Database

log = structlog.get_logger("quire")

MAX_WAITING: Final = 10_000
"""Beyond, nobody waits: entries are answered as durable, without their proof."""
POLL_INTERVAL_S: Final = 0.25
"""How long a checkpoint that was signed just before somebody began to wait is overlooked."""


class TreeGrowthWaiters:
    """Tells who waits when the signed tree of an org has grown over an entry."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[int, dict[asyncio.Future[None], int]] = {}
        self._count = 0
        self._news = asyncio.Event()

    def announced(self, _: str) -> None:
        """Trees have grown: look at them."""
        self._news.set()

    async def covers(self, org_id: int, seq: int, timeout_s: float) -> bool:
        """Wait until a checkpoint includes this entry; False where none does in time."""
        if self._count >= MAX_WAITING:
            return False
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(org_id, {})[future] = seq
        self._count += 1
        if self._count == 1:
            self._news.set()  # the watch may be asleep
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        finally:
            self._count -= 1
            waiting = self._waiting[org_id]
            del waiting[future]
            if not waiting:
                del self._waiting[org_id]
        return True

    async def watch(self) -> None:
        """Look at the trees of all orgs that are waited for, at each signing, for ever."""
        trouble = Lasting(
            "signed trees can't be looked at",
            "signed trees can be looked at again",
            grace_s=GRACE_S,
        )
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL_S if self._count else None):
                    await self._news.wait()
            self._news.clear()
            if not self._count:
                continue
            try:
                grown = await history.sizes(self._database, self._waiting)
            except StorageError as error:
                trouble.failed(log.warning, str(error), early=log.info)
                await asyncio.sleep(POLL_INTERVAL_S)
                continue
            trouble.fine()
            for org_id, size in grown.items():
                for future, seq in self._waiting.get(org_id, {}).items():
                    if seq < size and not future.done():
                        future.set_result(None)
