"""API keys. Of a secret only a keyed hash is stored; a row without the right MAC decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from ledger.entry import to_datetime
from ledger.rows import DecidingTable
from ledger.storage.database import Connection, Database
from ledger.storage.row_changes import RowChange

API_KEYS: Final = DecidingTable(
    "api_keys",
    ("id",),
    (
        "org_id", "name", "role", "secret_hash", "created_at", "created_by",
        "expires_at", "allowed_cidrs", "rotated_to", "revoked_at",
    ),
    times=("created_at", "expires_at", "revoked_at"),
)  # fmt: skip
# The columns of the MAC, where a time that Python can't hold reads as NULL: the MAC is wrong then.
_COLUMNS: Final = f"""{API_KEYS.selected()}, mac,
       CASE WHEN last_used_at BETWEEN 'epoch' AND '4253-01-01Z' THEN last_used_at END,
       coalesce((SELECT h.revocations FROM heads h WHERE h.org_id = api_keys.org_id), 0),
       coalesce((SELECT h.revocations FROM heads h JOIN orgs o ON o.id = h.org_id
                 WHERE o.slug = 'system'), 0)"""
_CREATED: Final = API_KEYS.columns.index("created_at")
_NAMES: Final = ", ".join(API_KEYS.columns)
_VALUES: Final = """$1::text, $2::bigint, $3::text, $4::text, $5::bytea, $6::timestamptz, $7::text,
           $8::timestamptz, $9::text, $10::text, $11::timestamptz, $12::bytea"""
# A key that was rotated is not counted: its successor is.
_LIVE: Final = """
SELECT count(*) FROM api_keys k WHERE k.org_id = $1 AND k.revoked_at IS NULL
   AND (k.expires_at IS NULL OR k.expires_at > $2) AND ($3 OR k.rotated_to IS NULL)"""
# No key is made for an org that has no row, nor one more than its org may have. Its entry makes keys
# one after the other, so the count is exact.
INSERT: Final = f"""
changed AS (
    INSERT INTO api_keys ({_NAMES}, mac)
    SELECT {_VALUES} {{source}}
    WHERE $2::bigint IS NULL OR (
        EXISTS (SELECT FROM orgs o WHERE o.id = $2::bigint) AND $13::bigint > (
            SELECT count(*) FROM api_keys k WHERE k.org_id = $2::bigint AND k.revoked_at IS NULL
               AND (k.expires_at IS NULL OR k.expires_at > $6::timestamptz)
               AND k.rotated_to IS NULL))
    ON CONFLICT DO NOTHING RETURNING mac, created_at
)"""
SUCCEED: Final = f"INSERT INTO api_keys ({_NAMES}, mac) VALUES ({_VALUES})"
CHANGE: Final = """
UPDATE api_keys SET name = $2, expires_at = $3, allowed_cidrs = $4, rotated_to = $5,
       revoked_at = $6, mac = $7
WHERE id = $1 AND mac = $8"""
# The lock on a head row makes appends of the org wait, and the count makes them look again.
# That of the trail `system`, which has the entry, does the same to administrative changes.
COUNT_REVOCATION: Final = """
UPDATE heads SET revocations = revocations + 1
WHERE org_id = $1 OR org_id = (SELECT id FROM orgs WHERE slug = 'system')"""
# Shared, so that a revocation waits for the transactions that rely on the key, and they for it.
HOLD: Final = "SELECT FROM api_keys WHERE id = $1 AND mac = $2 FOR SHARE"
NOTIFY: Final = "SELECT pg_notify('quire_keys', $1)"
# After the key named $2, which is one of the org; after none if it is not.
LIST: Final = f"""
SELECT {_COLUMNS} FROM api_keys WHERE org_id IS NOT DISTINCT FROM $1
   AND ($2 = '' OR (api_keys.created_at, api_keys.id) > (
        SELECT k.created_at, k.id FROM api_keys k
        WHERE k.id = $2 AND k.org_id IS NOT DISTINCT FROM $1))
ORDER BY api_keys.created_at, api_keys.id LIMIT $3"""

# Locked in one order: two processes store the same keys at once.
STORE_USES: Final = """
WITH used AS (
    SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS u (id, at)
), locked AS (
    SELECT k.id, u.at FROM api_keys k JOIN used u ON u.id = k.id
    WHERE k.last_used_at IS NULL OR k.last_used_at < u.at - $3::interval
    ORDER BY k.id FOR NO KEY UPDATE OF k
)
UPDATE api_keys k SET last_used_at = l.at FROM locked l WHERE k.id = l.id"""


class ApiKeyRow(NamedTuple):
    """The columns of an API key that decide, in the order of :data:`API_KEYS`.

    ``allowed_cidrs`` are ranges with commas between them, "" for any address. ``created_by`` is the
    actor who made the key.
    """

    id: str
    org_id: int | None
    name: str
    role: str
    secret_hash: bytes
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    allowed_cidrs: str = ""
    rotated_to: str | None = None
    revoked_at: datetime | None = None

    def mac(self, row_key: bytes) -> bytes:
        """Return the MAC of the row."""
        return API_KEYS.mac(row_key, *self)


class ApiKeyRecord(NamedTuple):
    """One API key. If it ``is_authentic``, this server wrote what the row says.

    ``revocations`` is its org's count when the row was read, in the same snapshot;
    ``system_revocations`` that of the trail `system`: of all keys. ``last_used_at`` is at most some
    minutes late, and has no MAC.
    """

    row: ApiKeyRow
    mac: bytes
    is_authentic: bool
    last_used_at: datetime | None
    revocations: int
    system_revocations: int

    @property
    def id(self) -> str:
        """The id of the key."""
        return self.row.id

    @property
    def org_id(self) -> int | None:
        """The number of its org, None for a platform key."""
        return self.row.org_id

    def is_valid(self, at: datetime) -> bool:
        """Return whether requests with the key are let in at a time."""
        expires_at = self.row.expires_at
        live = self.row.revoked_at is None and (expires_at is None or at < expires_at)
        return live and self.is_authentic


def creation(row: ApiKeyRow, mac: bytes, most: int) -> RowChange:
    """Return the creation of a key.

    It is refused where its id is taken, its org has no row, or ``most`` live keys already.
    """
    return RowChange(INSERT, (*row, mac, most), mac)


async def live_keys(
    connection: Connection, org_id: int, at: datetime, *, rotated: bool = False
) -> int:
    """Return how many keys of an org are valid at a time; with those that were ``rotated``, or without.

    Raises asyncpg's errors.
    """
    return int(await connection.fetchval(_LIVE, org_id, at, rotated))


async def change(connection: Connection, changed: ApiKeyRow, mac: bytes, before: bytes) -> bool:
    """Change a key and notify every server; False unless its row has the MAC ``before``.

    Appends and administrative changes that were admitted before look their keys up again. Raises
    asyncpg's errors.
    """
    done = await connection.execute(
        CHANGE,
        changed.id,
        changed.name,
        changed.expires_at,
        changed.allowed_cidrs,
        changed.rotated_to,
        changed.revoked_at,
        mac,
        before,
    )
    if done != "UPDATE 1":
        return False
    await connection.execute(COUNT_REVOCATION, changed.org_id)
    await connection.execute(NOTIFY, changed.id)
    return True


async def succeed(connection: Connection, row: ApiKeyRow, mac: bytes) -> None:
    """Store the key that replaces a rotated one. Raises asyncpg's errors."""
    await connection.execute(SUCCEED, *row, mac)


async def hold(connection: Connection, key_id: str, mac: bytes) -> bool:
    """Keep a key from being changed until the transaction ends; False if its row has another MAC.

    Raises asyncpg's errors.
    """
    return await connection.fetchrow(HOLD, key_id, mac) is not None


async def store_uses(
    database: Database, ids: Sequence[str], times: Sequence[datetime], slack: timedelta
) -> None:
    """Store when keys were last used, unless a time is stored that is earlier by less than ``slack``.

    Raises DatabaseUnavailable.
    """
    await database.execute(STORE_USES, ids, times, slack)


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

    async def found(self, key_ids: Sequence[str]) -> list[ApiKeyRecord]:
        """Return those of these keys that exist, revoked or not, authentic or not."""
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM api_keys WHERE id = ANY($1::text[])", key_ids
        )
        return [self._record(row) for row in rows]

    async def of_org(self, org_id: int | None, after: str, limit: int) -> list[ApiKeyRecord]:
        """Return keys of an org (None: of the platform), oldest first, after the key with an id."""
        rows = await self._database.fetch(LIST, org_id, after, limit)
        return [self._record(row) for row in rows]

    async def chosen(
        self, connection: Connection, query: str, *values: object
    ) -> list[ApiKeyRecord]:
        """Return the keys of a query, of which this is all from FROM on. Raises asyncpg's errors."""
        return [
            self._record(row)
            for row in await connection.fetch(f"SELECT {_COLUMNS} {query}", *values)
        ]

    def _record(self, found: Any) -> ApiKeyRecord:
        values, (mac, last_used_at, revocations, of_system) = found[:-4], found[-4:]
        right = API_KEYS.is_right(self._row_key, mac, *values)
        row = ApiKeyRow(*values)
        if values[_CREATED] is None:  # a planted time, of which the MAC is not right
            row = row._replace(created_at=to_datetime(0))
        return ApiKeyRecord(row, mac, right, last_used_at, revocations, of_system)
