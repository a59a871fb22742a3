"""Orgs in a database without a register: for tests below the server."""

from __future__ import annotations

from ledger.sealing import row_key
from ledger.storage import orgs
from ledger.storage.database import Database
from ledger.storage.orgs import OrgRow

MASTER_KEY = bytes(range(32))


async def add_org(
    database: Database, org_id: int, slug: str, name: str, privacy: str, wrapped_key: bytes
) -> str | None:
    """Create an org with an empty trail; return what is taken already, as the storage does."""
    row = OrgRow(org_id, slug, name, privacy, wrapped_key)
    async with database.connection() as connection:
        return await orgs.insert_org(connection, row, row.mac(row_key(MASTER_KEY)))
