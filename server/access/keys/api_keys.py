"""API keys as the register knows them: an older row that was put back counts as forged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from ledger.core.register import API_KEYS, Register
from ledger.storage.api_keys import ApiKeyRecord, ApiKeyTable
from ledger.storage.database import Database

PAGE_KEYS: Final = 500


class ApiKeys:
    """Reads API keys. Methods raise DatabaseUnavailable."""

    def __init__(self, database: Database, register: Register) -> None:
        self._register = register
        self._table = ApiKeyTable(database, register.row_key)

    async def find(self, key_id: str) -> ApiKeyRecord | None:
        """Return the key with this id, revoked or not, authentic or not, or None."""

        return (await self.found([key_id])).get(key_id)

    async def found(self, key_ids: Sequence[str]) -> dict[str, ApiKeyRecord]:
        """Return those of these keys that exist, revoked or not, authentic or not, by id."""

        async def read() -> list[ApiKeyRecord]:
            return await self._table.found(key_ids)

        records = self._judged(await self._register.settled(read, _facts))
        return {record.id: record for record in records}

    async def page(self, org_id: int | None, after: str, limit: int) -> list[ApiKeyRecord]:
        """Return keys of an org (None: of the platform), oldest first, after the key with an id.

        With "", they are the first ones.
        """

        async def read() -> list[ApiKeyRecord]:
            return await self._table.of_org(org_id, after, limit)

        return self._judged(await self._register.settled(read, _facts))

    async def of_org(self, org_id: int | None) -> list[ApiKeyRecord]:
        """Return all keys of an org (None: of the platform), oldest first."""
        return [key async for key in self._all(org_id)]

    async def _all(self, org_id: int | None) -> AsyncIterator[ApiKeyRecord]:
        after, full = "", True
        while full:
            found = await self.page(org_id, after, PAGE_KEYS)
            for key in found:
                yield key
            full = len(found) == PAGE_KEYS
            after = found[-1].id if found else ""

    def was_removed(self, key_id: str) -> bool:
        """Return whether a key that has no row was made by this server."""
        return self._register.has(API_KEYS, key_id)

    def _judged(self, records: list[ApiKeyRecord]) -> list[ApiKeyRecord]:
        return [
            record
            if self._register.knows(API_KEYS, record.id, record.mac)
            else record._replace(is_authentic=False)
            for record in records
        ]


def _facts(records: list[ApiKeyRecord]) -> list[tuple[str, str, bytes]]:
    return [(API_KEYS, record.id, record.mac) for record in records]
