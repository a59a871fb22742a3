"""Waits until signed trees have grown, with one query for all waiting requests."""

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
MAX_WAITING_OF_ORG: Final = 1_000
"""Further requests do not wait: their entries are answered as durable, without their proof."""
POLL_INTERVAL_S: Final = 0.25
"""How late a checkpoint is noticed that was signed just before a request began to wait."""


class TreeGrowthWaiters:
    """Wakes requests when the signed tree of their org covers their entry."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[int, dict[asyncio.Future[None], int]] = {}
        self._count = 0
        self._wake = asyncio.Event()

    def announced(self, _: str) -> None:
        """Check the waiting entries: trees have grown."""
        self._wake.set()

    async def covers(self, org_id: int, seq: int, timeout_s: float) -> bool:
        """Wait until a checkpoint includes this entry; return False if none does in time."""
        own = self._waiting.get(org_id, {})
        if self._count >= MAX_WAITING or len(own) >= MAX_WAITING_OF_ORG:
            return False
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(org_id, own)[future] = seq
        self._count += 1
        if self._count == 1:
            self._wake.set()  # the watch may be asleep
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
        """Check the trees of all orgs with waiting requests at each signing; until cancelled."""
        trouble = Lasting(
            "signed trees can't be read",
            "signed trees can be read again",
            grace_s=GRACE_S,
        )
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL_S if self._count else None):
                    await self._wake.wait()
            self._wake.clear()
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
