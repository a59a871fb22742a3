"""When API keys were last used: noted in each process, and stored once a minute for all of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from ledger.core.lasting import Lasting
from ledger.entry import to_datetime
from ledger.errors import StorageError
from ledger.storage import api_keys
from ledger.storage.database import Database

STORE_S: Final = 60.0
SLACK: Final = timedelta(seconds=50)
"""A process stores no use so soon after one that another process stored."""
MAX_NOTED: Final = 200_000
"""Keys whose uses wait for being stored, as while the database is away; further ones are not noted."""
_log = logging.getLogger(__name__)


class KeyUsage:
    """The uses of keys in one process. ``now_us`` returns the time in µs since the Unix epoch."""

    def __init__(self, database: Database, now_us: Callable[[], int]) -> None:
        self._database = database
        self._now_us = now_us
        self._used: dict[str, float] = {}

    def note(self, key_id: str) -> None:
        """Note that a key is used now. Every request calls this: it stores nothing."""
        used = self._used
        if len(used) < MAX_NOTED or key_id in used:
            used[key_id] = time.monotonic()

    async def store(self, slack: timedelta = timedelta(0)) -> None:
        """Store what was noted; uses that could not be stored wait. Raises StorageError."""
        if not self._used:
            return
        used, self._used = self._used, {}
        ahead_us = self._now_us() - int(time.monotonic() * 1e6)
        times = [to_datetime(int(at_s * 1e6) + ahead_us) for at_s in used.values()]
        try:
            await api_keys.store_uses(self._database, list(used), times, slack)
        except BaseException:
            self._used = {**used, **self._used}
            raise

    async def keep_storing(self) -> None:
        """Store once a minute what was noted; runs until cancelled."""
        trouble = Lasting("uses of API keys are not stored", "uses of API keys are stored again")
        while True:
            await asyncio.sleep(STORE_S)
            try:
                await self.store(SLACK)
            except StorageError:
                trouble.failed(_log.info, "they are stored when the database is back")
            else:
                trouble.fine()
