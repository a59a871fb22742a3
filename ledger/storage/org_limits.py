"""The rate limits of orgs that have their own. A row without the right MAC decides nothing."""

from __future__ import annotations

from typing import Final, NamedTuple

from ledger.rows import DecidingTable
from ledger.storage.database import Database
from ledger.storage.row_changes import RowChange

ORG_LIMITS: Final = DecidingTable(
    "org_limits",
    ("org_id",),
    (
        "key_append", "key_read", "key_verify",
        "org_append", "org_read", "org_verify",
    ),
)  # fmt: skip
# The row of an org is replaced if it has the MAC $9, and made where $9 is NULL and there is none.
# Servers are notified when the transaction commits.
SET: Final = """
changed AS (
    INSERT INTO org_limits AS l
        (org_id, key_append, key_read, key_verify, org_append, org_read, org_verify, mac)
    SELECT $1::bigint, $2::bigint, $3::bigint, $4::bigint, $5::bigint, $6::bigint, $7::bigint,
           $8::bytea
    {source} WHERE $9::bytea IS NOT NULL OR NOT EXISTS (SELECT FROM org_limits o WHERE o.org_id = $1)
    ON CONFLICT (org_id) DO UPDATE SET
        key_append = excluded.key_append, key_read = excluded.key_read,
        key_verify = excluded.key_verify, org_append = excluded.org_append,
        org_read = excluded.org_read, org_verify = excluded.org_verify, mac = excluded.mac
    WHERE l.mac = $9
    RETURNING l.mac, l.created_at, pg_notify('quire_limits', l.org_id::text)
)"""
_READ: Final = f"SELECT {ORG_LIMITS.selected()}, mac FROM org_limits WHERE org_id = $1"


class OrgLimitsRow(NamedTuple):
    """The columns that decide: requests a minute, 0 for no limit, in the order of the table."""

    org_id: int
    key_append: int = 0
    key_read: int = 0
    key_verify: int = 0
    org_append: int = 0
    org_read: int = 0
    org_verify: int = 0

    def mac(self, row_key: bytes) -> bytes:
        """Return the MAC of the row."""
        return ORG_LIMITS.mac(row_key, *self)


class OrgLimitsRecord(NamedTuple):
    """A row and its MAC, right or not."""

    row: OrgLimitsRow
    mac: bytes

    def is_authentic(self, row_key: bytes) -> bool:
        """Return whether a server wrote the row, once."""
        return ORG_LIMITS.is_right(row_key, self.mac, *self.row)


def setting(row: OrgLimitsRow, mac: bytes, before: bytes | None) -> RowChange:
    """Return the change of an org's limits.

    It is refused unless the org's row has the MAC ``before``; None: unless it has no row.
    """
    return RowChange(SET, (*row, mac, before), mac)


async def of_org(database: Database, org_id: int) -> OrgLimitsRecord | None:
    """Return the row of an org, authentic or not; None if there is none. Raises DatabaseUnavailable."""
    found = await database.fetchrow(_READ, org_id)
    return None if found is None else OrgLimitsRecord(OrgLimitsRow(*found[:-1]), found[-1])


async def mac_of(database: Database, org_id: str) -> bytes:
    """Return the MAC in the row of an org, b"" where there is no such row."""
    row = await database.fetchrow("SELECT mac FROM org_limits WHERE org_id = $1", int(org_id))
    return b"" if row is None else bytes(row[0])
