"""Reports of API keys that expire soon, or never: once for each key and each time ahead."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from ledger.core.register import API_KEYS, Register
from ledger.entry import rfc3339
from ledger.storage import ending_keys
from ledger.storage.api_keys import ApiKeyRecord, ApiKeyTable
from ledger.storage.database import Database
from ledger.storage.ending_keys import KeyNotice

EXPIRES: Final = "key_expires"
NEVER_EXPIRES: Final = "key_never_expires"
DAYS_AHEAD: Final = (1, 7, 14, 30)
"""So many days before a key expires there is an event; the least that applies, if several do."""


class KeyEndings:
    """Stores security events about the ends of keys. One process of all servers does so at a time."""

    def __init__(self, database: Database, register: Register) -> None:
        self._database = database
        self._register = register
        self._table = ApiKeyTable(database, register.row_key)

    async def report(self, now: datetime) -> None:
        """Store the events that are due at a time; nothing while another process does.

        A crash here leaves none of them; the next call stores them all. Raises DatabaseUnavailable.
        """
        await self._register.refresh()
        async with self._database.transaction() as connection:
            if not await ending_keys.lead(connection):
                return
            after, full = "", True
            while full:
                page = await ending_keys.due(connection, self._table, after, now)
                notices = [notice(key, now) for key in page if self._is_right(key)]
                await ending_keys.store(connection, notices)
                full = len(page) == ending_keys.PAGE
                after = page[-1].id if page else ""

    def _is_right(self, key: ApiKeyRecord) -> bool:
        """Return whether a key is as its newest entry says; a forged one is reported when it is used."""
        return key.is_authentic and self._register.knows(API_KEYS, key.id, key.mac)


def notice(key: ApiKeyRecord, now: datetime) -> KeyNotice:
    """Return the event about a key that ends within 30 days, or never."""
    ends = key.row.expires_at
    if ends is None:
        detail = f"API key {key.id} ({key.row.role}) never expires: replace it by one that does"
        return KeyNotice(key.org_id, NEVER_EXPIRES, detail, key.id)
    days = next(days for days in DAYS_AHEAD if ends - now <= timedelta(days=days))
    ahead = "a day" if days == 1 else f"{days} days"
    detail = (
        f"API key {key.id} ({key.row.role}) expires at {rfc3339(ends)}, within {ahead}: rotate it"
    )
    return KeyNotice(key.org_id, EXPIRES, detail, key.id)
