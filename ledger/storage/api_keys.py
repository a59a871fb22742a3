"""API keys. Of a secret only a keyed hash is stored; a row without the right MAC decides nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from ledger.rows import DecidingTable
from ledger.storage.database import Connection, Database
from ledger.storage.row_changes import RowChange

API_KEYS: Final = DecidingTable(
    "api_keys",
    ("id",),
    ("org_id", "name", "role", "secret_hash", "revoked_at"),
    times=("revoked_at",),
)

# A time that Python can't hold reads as NULL: the MAC is wrong then, or the key never was revoked.
_COLUMNS: Final = """id, org_id, name, role, secret_hash,
       CASE WHEN created_at BETWEEN 'epoch' AND '4253-01-01Z' THEN created_at ELSE 'epoch' END,
       CASE WHEN revoked_at BETWEEN 'epoch' AND '4253-01-01Z' THEN revoked_at END AS revoked_at,
       mac,
       coalesce((SELECT h.revocations FROM heads h WHERE h.org_id = api_keys.org_id), 0),
       coalesce((SELECT h.revocations FROM heads h JOIN orgs o ON o.id = h.org_id
                 WHERE o.slug = 'system'), 0)"""
# No key is made for an org that has no row.
INSERT: Final = """
changed AS (
    INSERT INTO api_keys (id, org_id, name, role, secret_hash, revoked_at, mac)
    SELECT $1::text, $2::bigint, $3::text, $4::text, $5::bytea, $6::timestamptz, $7::bytea {source}
    WHERE $2::bigint IS NULL OR EXISTS (SELECT FROM orgs o WHERE o.id = $2::bigint)
    ON CONFLICT DO NOTHING RETURNING mac, created_at
)"""
REVOKE: Final = "UPDATE api_keys SET revoked_at = $2, mac = $3 WHERE id = $1 AND mac = $4"
# The lock on a head row makes appends of the org wait, and the count makes them look again.
# That of the trail `system`, which has the entry, does the same to administrative changes.
COUNT_REVOCATION: Final = """
UPDATE heads SET revocations = revocations + 1
WHERE org_id = $1 OR org_id = (SELECT id FROM orgs WHERE slug = 'system')"""
# Shared, so that a revocation waits for the transactions that rely on the key, and they for it.
HOLD: Final = "SELECT FROM api_keys WHERE id = $1 AND mac = $2 FOR SHARE"
NOTIFY: Final = "SELECT pg_notify('quire_keys', $1)"


class ApiKeyRow(NamedTuple):
    """The columns of an API key that decide, in the order of :data:`API_KEYS`."""

    id: str
    org_id: int | None
    name: str
    role: str
    secret_hash: bytes
    revoked_at: datetime | None = None

    def mac(self, row_key: bytes) -> bytes:
        """Return the MAC of the row."""
        return API_KEYS.mac(row_key, *self)


class ApiKeyRecord(NamedTuple):
    """One API key. If it ``is_authentic``, this server wrote what the row says.

    ``revocations`` is its org's count when the row was read, in the same snapshot;
    ``system_revocations`` that of the trail `system`: of all keys.
    """

    id: str
    org_id: int | None
    name: str
    role: str
    secret_hash: bytes
    created_at: datetime
    revoked_at: datetime | None
    mac: bytes
    is_authentic: bool
    revocations: int
    system_revocations: int

    @property
    def is_valid(self) -> bool:
        """Whether requests with the key are let in."""
        return self.is_authentic and self.revoked_at is None

    def row(self) -> ApiKeyRow:
        """Return the columns that a MAC covers."""
        return ApiKeyRow(
            self.id, self.org_id, self.name, self.role, self.secret_hash, self.revoked_at
        )


def creation(row: ApiKeyRow, mac: bytes) -> RowChange:
    """Return the creation of a key; refused where its id is taken, or its org has no row."""
    return RowChange(INSERT, (*row, mac), mac)


async def revoke(connection: Connection, revoked: ApiKeyRow, mac: bytes, before: bytes) -> bool:
    """Revoke a key and notify every server; False unless its row has the MAC ``before``.

    Raises asyncpg's errors.
    """
    if await connection.execute(REVOKE, revoked.id, revoked.revoked_at, mac, before) != "UPDATE 1":
        return False
    await connection.execute(COUNT_REVOCATION, revoked.org_id)
    await connection.execute(NOTIFY, revoked.id)
    return True


async def hold(connection: Connection, key_id: str, mac: bytes) -> bool:
    """Keep a key from being changed until the transaction ends; False if its row has another MAC.

    Raises asyncpg's errors.
    """
    return await connection.fetchrow(HOLD, key_id, mac) is not None


async def mac_of(database: Database, key_id: str) -> bytes:
    """Return the MAC in the row of a key, b"" where there is no such row."""
    row = await database.fetchrow("SELECT mac FROM api_keys WHERE id = $1", key_id)
    return b"" if row is None else row[0]


class ApiKeyTable:
    """Reads the API keys of a database; ``row_key`` authenticates its rows.

    Every method raises DatabaseUnavailable.
    """

    def __init__(self, database: Database, row_key: bytes) -> None:
        self._database = database
        self._row_key = row_key

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

    def _record(self, row: Any) -> ApiKeyRecord:
        (
            key_id,
            org_id,
            name,
            role,
            secret_hash,
            created_at,
            revoked_at,
            mac,
            revocations,
            all_revocations,
        ) = row
        right = API_KEYS.is_right(
            self._row_key, mac, key_id, org_id, name, role, secret_hash, revoked_at
        )
        return ApiKeyRecord(
            key_id,
            org_id,
            name,
            role,
            secret_hash,
            created_at,
            revoked_at,
            mac,
            right,
            revocations,
            all_revocations,
        )
