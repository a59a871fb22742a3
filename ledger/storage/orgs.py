"""Tenants and their security events. A row without the right MAC decides nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from ledger.blocks.block import SYSTEM_ORG
from ledger.entry import to_datetime
from ledger.rows import DecidingTable
from ledger.storage import row_changes
from ledger.storage.database import Connection, Database
from ledger.storage.row_changes import RowChange

ORGS: Final = DecidingTable(
    "orgs",
    ("id",),
    (
        "slug", "name", "privacy", "wrapped_key", "log_public", "keys_lost_below",
        "entries_a_day", "bytes_a_day", "max_key_age_days",
    ),
)  # fmt: skip


class OrgRow(NamedTuple):
    """The columns of an org that decide, in the order of :data:`ORGS`."""

    id: int
    slug: str
    name: str
    privacy: str
    wrapped_key: bytes
    log_public: bool = False
    keys_lost_below: int = 0
    entries_a_day: int = 0
    bytes_a_day: int = 0
    max_key_age_days: int = 0

    def mac(self, row_key: bytes) -> bytes:
        """Return the MAC of the row."""
        return ORGS.mac(row_key, *self)


class OrgRecord(NamedTuple):
    """One org with its head and its frozen state."""

    id: int
    slug: str
    name: str
    privacy: str
    wrapped_key: bytes
    created_at: datetime
    mac: bytes
    seq: int
    entry_hash: bytes
    anchored_at: datetime
    frozen_at: datetime | None
    frozen_reason: str | None
    has_head: bool
    log_public: bool
    keys_lost_below: int
    entries_a_day: int
    bytes_a_day: int
    max_key_age_days: int

    def row(self) -> OrgRow:
        """Return the columns that a MAC covers."""
        return OrgRow(
            self.id,
            self.slug,
            self.name,
            self.privacy,
            self.wrapped_key,
            self.log_public,
            self.keys_lost_below,
            self.entries_a_day,
            self.bytes_a_day,
            self.max_key_age_days,
        )

    @classmethod
    def of_new(cls, row: OrgRow, mac: bytes, created_at: datetime) -> OrgRecord:
        """Return the record of an org that was just created: its trail is empty."""
        return cls(*row[:5], created_at, mac, -1, b"", to_datetime(0), None, None, True, *row[5:])

    def is_authentic(self, row_key: bytes) -> bool:
        """Return whether a server wrote the columns that a MAC covers, once."""
        return ORGS.is_right(row_key, self.mac, *self.row())


SELECT_ORG = """
SELECT o.id, o.slug, o.name, o.privacy, o.wrapped_key, o.created_at, o.mac,
       coalesce(h.seq, -1), coalesce(h.entry_hash, ''),
       -- An edited time that Python can't hold must not hide this org or fail the query for all.
       CASE WHEN h.anchored_at BETWEEN 'epoch' AND '4253-01-01Z' THEN h.anchored_at ELSE 'epoch' END,
       h.frozen_at, h.frozen_reason, h.org_id IS NOT NULL, o.log_public,
       o.keys_lost_below, o.entries_a_day, o.bytes_a_day, o.max_key_age_days
FROM orgs o LEFT JOIN heads h ON h.org_id = o.id"""
# Nothing is inserted where the id or the slug is taken.
INSERT_ORG: Final = """
changed AS (
    INSERT INTO orgs (id, slug, name, privacy, wrapped_key, log_public, keys_lost_below,
                      entries_a_day, bytes_a_day, max_key_age_days, mac)
    SELECT $1::bigint, $2::text, $3::text, $4::text, $5::bytea, $6::boolean, $7::bigint,
           $8::bigint, $9::bigint, $10::bigint, $11::bytea
    {source} ON CONFLICT DO NOTHING RETURNING id, mac, created_at
), org_head AS (
    INSERT INTO heads (org_id) SELECT id FROM changed
)"""
SLUG_TAKEN: Final = "SELECT EXISTS (SELECT FROM orgs WHERE slug = $1)"
# Servers are notified when the transaction commits.
CHANGE_ORG: Final = """
changed AS (
    UPDATE orgs o SET name = $2, log_public = $3, entries_a_day = $4, bytes_a_day = $5,
                      max_key_age_days = $6, mac = $7
    {source} WHERE o.id = $1 AND o.mac = $8
    RETURNING o.mac, o.created_at, pg_notify('quire_orgs', o.slug)
)"""


def creation(row: OrgRow, mac: bytes) -> RowChange:
    """Return the creation of an org with an empty trail; refused where its id or slug is taken."""
    return RowChange(INSERT_ORG, (*row, mac), mac)


async def slug_taken(connection: Connection, slug: str) -> bool:
    """Return whether an org has this slug. Raises asyncpg's errors."""
    return bool(await connection.fetchval(SLUG_TAKEN, slug))


async def insert_org(connection: Connection, row: OrgRow, mac: bytes) -> str | None:
    """Create an org with an empty trail; return what is taken already: "slug", "id" or None.

    Raises asyncpg's errors.
    """
    if (await row_changes.make(connection, [creation(row, mac)]))[0] is not None:
        return None
    return "slug" if await slug_taken(connection, row.slug) else "id"


async def add_head(database: Database, org_id: int) -> None:
    """Give an org that has no head row that of an empty trail. Raises DatabaseUnavailable."""
    await database.execute("INSERT INTO heads (org_id) VALUES ($1) ON CONFLICT DO NOTHING", org_id)


def alteration(row: OrgRow, mac: bytes, before: bytes) -> RowChange:
    """Return the change of what may be changed of an org.

    It is refused unless the org's row has the MAC ``before``.
    """
    values = row.id, row.name, row.log_public, row.entries_a_day, row.bytes_a_day
    return RowChange(CHANGE_ORG, (*values, row.max_key_age_days, mac, before), mac)


async def org_by_slug(database: Database, slug: str) -> OrgRecord | None:
    """Return the org with this slug, or None."""
    row = await database.fetchrow(f"{SELECT_ORG} WHERE o.slug = $1", slug)
    return None if row is None else OrgRecord(*row)


async def org_by_id(database: Database, org_id: int) -> OrgRecord | None:
    """Return the org with this id, or None."""
    row = await database.fetchrow(f"{SELECT_ORG} WHERE o.id = $1", org_id)
    return None if row is None else OrgRecord(*row)


async def mac_of(database: Database, slug: str) -> bytes:
    """Return the MAC in the row of an org, b"" where there is no such row."""
    row = await database.fetchrow("SELECT mac FROM orgs WHERE slug = $1", slug)
    return b"" if row is None else row[0]


async def list_orgs(database: Database, after_slug: str, limit: int) -> list[OrgRecord]:
    """Return orgs in the order of their slugs, after ``after_slug``."""
    rows = await database.fetch(
        f"{SELECT_ORG} WHERE o.slug > $1 ORDER BY o.slug LIMIT $2", after_slug, limit
    )
    return [OrgRecord(*row) for row in rows]


async def any_org(database: Database) -> bool:
    """Return whether the database has any org but the server's own."""
    query = "SELECT 1 FROM orgs WHERE slug <> $1 LIMIT 1"
    return await database.fetchrow(query, SYSTEM_ORG) is not None


async def public_org(database: Database, slug: str) -> OrgRecord | None:
    """Return the org with this slug if its log is public; None for a private or missing org."""
    row = await database.fetchrow(f"{SELECT_ORG} WHERE o.slug = $1 AND o.log_public", slug)
    return None if row is None else OrgRecord(*row)
