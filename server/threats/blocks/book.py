"""The addresses behind digests, for people who look at blocks and events: kept for some days only.

They are personal data, and stand in one table, apart from everything that is only ever added to.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from ledger.bounded import BoundedCache
from ledger.core.lasting import GRACE_S, Lasting
from ledger.entry import to_datetime
from ledger.errors import StorageError
from ledger.storage import addresses
from ledger.storage.database import Database
from server.access.callers.blocked import BlockedAddresses
from server.addresses import ClientAddress
from server.threats.blocks.rules import address_of_text
from server.trails.services import Services

STORE_S: Final = 1.0
AGAIN_S: Final = 3_600.0
"""An address that was noted so recently is not stored again."""
MAX_NOTED: Final = 10_000
"""Addresses that wait for being stored; further ones are noted when they come again."""
_log = logging.getLogger(__name__)


class AddressBook:
    """The address book of one process: ``services.part(address_book)``.

    :meth:`note` an address whenever an event that names its digest is written: without its address
    no block is made for it.
    """

    def __init__(self, database: Database, blocked: BlockedAddresses) -> None:
        self._database = database
        self._blocked = blocked
        self._waiting: dict[str, str] = {}
        self._stored: BoundedCache[str, float] = BoundedCache(MAX_NOTED)

    def note(self, address: ClientAddress) -> None:
        """Note an address, of IPv6 its /64, soon: no caller waits for it."""
        digest = self._blocked.digest(address)
        known = (self._stored.get(digest) or 0) > time.monotonic()
        if not known and len(self._waiting) < MAX_NOTED:
            self._waiting[digest] = address.group

    async def store(self) -> None:
        """Store what was noted. Raises DatabaseUnavailable; then it is stored the next time."""
        noted = self._waiting
        if not noted:
            return
        self._waiting = {}
        try:
            await addresses.note(self._database, noted, to_datetime(self._blocked.now_us()))
        except BaseException:
            self._waiting = {**noted, **self._waiting}
            raise
        until = time.monotonic() + AGAIN_S
        for digest in noted:
            self._stored.put(digest, until)

    async def text_of(self, digest: str) -> str | None:
        """Return the address, or the IPv6 /64, with a digest; None if it is not known any more."""
        return (await self.texts_of([digest])).get(digest)

    async def texts_of(self, digests: Sequence[str]) -> dict[str, str]:
        """Return the known addresses with these digests; a row that does not fit is left out."""
        found = await addresses.found(self._database, digests)
        return {digest: text for digest, text in found.items() if self._fits(digest, text)}

    def _fits(self, digest: str, text: str) -> bool:
        try:
            return self._blocked.digest(address_of_text(text)) == digest
        except ValueError:  # planted in the database
            return False

    async def expire(self, now: datetime, days: int) -> None:
        """Delete the addresses that nothing noted for some days. Raises DatabaseUnavailable."""
        await addresses.expire(self._database, now - timedelta(days=days))

    async def keep_storing(self) -> None:
        """Store once a second what was noted; runs until cancelled."""
        trouble = Lasting("addresses of events are not stored", "they are stored", grace_s=GRACE_S)
        while True:
            await asyncio.sleep(STORE_S)
            try:
                await self.store()
            except StorageError as error:
                trouble.failed(_log.warning, str(error), early=_log.info)
            else:
                trouble.fine()


def address_book(services: Services) -> AddressBook:
    """Return the address book of this process; made once, by :meth:`Services.part`."""
    return AddressBook(services.database, services.blocked)
