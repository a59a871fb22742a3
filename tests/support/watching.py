"""A verification job that never ends, for tests that watch jobs."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from ledger.sealing import row_key
from ledger.storage.database import Database
from ledger.storage.verifications import JobRow, VerificationTable
from server.keys.first_start import present_master_key
from tests.support.serving import Server


def row_key_of(server: Server) -> bytes:
    """Return the key of the MACs of a server's rows."""
    master_key = present_master_key(server.settings)
    assert master_key is not None
    return row_key(master_key)


async def never_ending(server: Server) -> str:
    """Insert a job that another process seems to run for ever; returns its id."""
    job = f"ver_{secrets.token_hex(16)}"
    database = await Database.open(server.database.superuser_url, size=1)
    try:
        org = await database.fetchrow("SELECT id FROM orgs WHERE slug = $1", server.org)
        assert org is not None
        row = JobRow(
            job, org[0], None, None, "running", 0, 0, 0, "[]", None, None, datetime.now(UTC), None
        )
        await VerificationTable(database, row_key_of(server)).store(row, "elsewhere")
        await database.execute("UPDATE verifications SET heartbeat_at = now() + interval '1 day'")
    finally:
        await database.close()
    return job
