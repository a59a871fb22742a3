"""Reports of API keys that were used from an address they may not be used from."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from ledger.bounded import BoundedCache
from ledger.errors import StorageError
from ledger.storage import security_events
from ledger.storage.database import Database
from server.access.principal import Principal
from server.addresses import ClientAddress

REFUSED: Final = "key_address_refused"
AGAIN_S: Final = 3_600.0
"""A key is reported again after this time, however often and from wherever it is used meanwhile."""
MAX_REPORTED: Final = 10_000
MAX_STORING: Final = 100
"""Reports that are being stored at once; a further one waits for the key's next use."""
_log = logging.getLogger(__name__)


class RefusedAddresses:
    """Stores one security event an hour for each key that is used from elsewhere."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reported: BoundedCache[str, float] = BoundedCache(MAX_REPORTED)
        self._storing: set[asyncio.Task[None]] = set()

    def note(self, principal: Principal, address: ClientAddress) -> None:
        """Report a refused address soon: the request does not wait for it."""
        now = time.monotonic()
        if (self._reported.get(principal.key_id) or 0) > now or len(self._storing) >= MAX_STORING:
            return
        self._reported.put(principal.key_id, now + AGAIN_S)
        storing = asyncio.create_task(self._store(principal, address))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)

    async def _store(self, principal: Principal, address: ClientAddress) -> None:
        about = f"API key {principal.key_id} "
        detail = f"{about}was used from {address}, which is none of its addresses, and refused"
        try:
            await security_events.add_hourly(
                self._database,
                principal.org_id,
                REFUSED,
                about,
                detail,
                key_id=principal.key_id,
            )
        except StorageError as error:
            self._reported.pop(principal.key_id)
            _log.error("a security event could not be stored (%s): %s", error, detail)
