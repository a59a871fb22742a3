"""Reports of what can't be believed, rows that decide above all, as security events."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ledger.errors import StorageError
from ledger.storage import security_events
from ledger.storage.database import Database

NOT_AUTHENTIC: Final = "row_not_authentic"
SIGNING_KEY_MISSING: Final = "signing_key_missing"
_log = logging.getLogger(__name__)


class ForgedRowReports:
    """Stores one security event for each row that was found."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._storing: dict[tuple[int | None, str], asyncio.Task[None]] = {}

    def found(self, org_id: int | None, what: str, kind: str = NOT_AUTHENTIC) -> None:
        """Store an event of an org, or of the platform, soon: no caller waits for it."""
        event = org_id, what
        if event not in self._storing:  # many requests may meet the same row at once
            storing = self._storing[event] = asyncio.create_task(self.store(org_id, what, kind))
            storing.add_done_callback(lambda _: self._storing.pop(event))

    async def store(self, org_id: int | None, what: str, kind: str = NOT_AUTHENTIC) -> None:
        """Store an event unless the same one is stored; while the database is away, only log it."""
        try:
            await security_events.add_once(self._database, org_id, kind, what)
        except StorageError as error:
            _log.error("a security event could not be stored (%s): %s", error, what)
