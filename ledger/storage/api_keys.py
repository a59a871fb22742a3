"""API keys. Of a secret only a keyed hash is stored; a row without the right MAC decides nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from ledger.rows import DecidingTable
from ledger.storage.database import Database

API_KEYS: Final = DecidingTable(
    "api_keys", ("id",), ("org_id", "role", "secret_hash", "revoked_at"), times=("revoked_at",)
)

_COLUMNS: Final = "id, org_id, name, role, secret_hash, created_at, revoked_at, mac"
INSERT: Final = """
INSERT INTO api_keys (id, org_id, name, role, secret_hash, mac) VALUES ($1, $2, $3, $4, $5, $6)"""
LOCK: Final = f"""
SELECT {_COLUMNS} FROM api_keys
WHERE id = $1 AND org_id IS NOT DISTINCT FROM $2 AND revoked_at IS NULL FOR UPDATE"""
REVOKE: Final = "UPDATE api_keys SET revoked_at = $2, mac = $3 WHERE id = $1"
NOTIFY: Final = "SELECT pg_notify('quire_keys', $1)"


class ApiKeyRecord(NamedTuple):
    """One API key. If it ``is_authentic``, this server wrote what the row says."""

    id: str
    org_id: int | None
    name: str
    role: str
    secret_hash: bytes
    created_at: datetime
    revoked_at: datetime | None
    is_authentic: bool

    @property
    def is_valid(self) -> bool:
        """Whether requests with the key are let in."""
        return self.is_authentic and self.revoked_at is None


class ApiKeyTable:
    """The API keys of a database; ``row_key`` authenticates its rows.

    Every method raises DatabaseUnavailable.
    """

    def __init__(self, database: Database, row_key: bytes) -> None:
        self._database = database
        self._row_key = row_key

    async def add(
        self, key_id: str, org_id: int | None, name: str, role: str, secret_hash: bytes
    ) -> None:
        """Store a new key."""
        mac = API_KEYS.mac(self._row_key, key_id, org_id, role, secret_hash, None)
        await self._database.execute(INSERT, key_id, org_id, name, role, secret_hash, mac)

    async def find(self, key_id: str) -> ApiKeyRecord | None:
        """Return the key with this id, revoked or not, authentic or not, or None."""
        row = await self._database.fetchrow(
            f"SELECT {_COLUMNS} FROM api_keys WHERE id = $1", key_id
        )
        return None if row is None else self._record(row)

    async def of_org(self, org_id: int | None) -> list[ApiKeyRecord]:
        """Return all keys of an org (None: of the platform), oldest first."""
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM api_keys WHERE org_id IS NOT DISTINCT FROM $1 "
            "ORDER BY created_at, id LIMIT 10000",
            org_id,
        )
        return [self._record(row) for row in rows]

    async def revoke(self, key_id: str, org_id: int | None) -> bool:
        """Revoke a key and notify every server; False if there is no such key that is not revoked."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(LOCK, key_id, org_id)
            if row is None:
                return False
            now = await connection.fetchval("SELECT now()")
            mac = API_KEYS.mac(self._row_key, key_id, org_id, row["role"], row["secret_hash"], now)
            # A crash before the commit leaves the key valid, and its caller without an answer.
            await connection.execute(REVOKE, key_id, now, mac)
            await connection.execute(NOTIFY, key_id)
        return True

    def _record(self, row: Any) -> ApiKeyRecord:
        key_id, org_id, name, role, secret_hash, created_at, revoked_at, mac = row
        right = API_KEYS.is_right(self._row_key, mac, key_id, org_id, role, secret_hash, revoked_at)
        return ApiKeyRecord(key_id, org_id, name, role, secret_hash, created_at, revoked_at, right)
