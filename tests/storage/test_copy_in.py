"""PostgreSQL keeps exactly the entries that were packed for COPY."""

from __future__ import annotations

import asyncpg

from ledger.chain import ChainHead, StoredEntry, extend
from ledger.core.org import OrgFacts
from ledger.entry import to_datetime
from ledger.storage.database import Database as Pool
from ledger.storage.entries import writing
from ledger.storage.partitions import create_for
from tests.support import blocks
from tests.support.appending import rows_of
from tests.support.clusters import Database
from tests.support.trails import KEY, draft

NOW_US = 1_800_000_000_123_456
MONTH_DROPPED = draft(b'{"month":"2026-01"}' * 40)
MONTH_DROPPED.event_type = "quire.partition_dropped"


def made(org_id: int, count: int, now_us: int, *, first: int = 0) -> list[StoredEntry]:
    """Entries of one commit, with payloads of many sizes."""
    drafts = [draft(b"\0payload" * (seq % 900)) for seq in range(count)]
    head = ChainHead(first - 1, bytes(32) if first else b"", 0)
    return extend(org_id, f"org-{org_id}", head, drafts, now_us, KEY)[0]


async def written(database: Database, entries: list[StoredEntry]) -> None:
    pool = await Pool.open(database.server_url)
    await create_for(pool, [entry.anchored_at for entry in entries] or [to_datetime(NOW_US)])
    await pool.close()
    connection = await asyncpg.connect(database.server_url)
    try:
        await writing.add(connection, entries)
    finally:
        await connection.close()


async def test_entries_arrive_as_they_were_packed(database: Database) -> None:
    of_orgs = {
        1: made(1, 700, NOW_US, first=200),
        2**31: made(2**31, 1, NOW_US - 1),
        2**32 - 1: made(2**32 - 1, 300, NOW_US + 1),
    }
    await written(database, [entry for entries in of_orgs.values() for entry in entries])
    for org_id, entries in of_orgs.items():
        assert await rows_of(database, org_id) == entries


async def test_nothing_can_be_written(database: Database) -> None:
    await written(database, [])


async def test_an_entry_that_records_a_dropped_month_is_alone_and_raw(database: Database) -> None:
    org = OrgFacts(5, "system", False, b"")
    drafts = [draft(b"before"), MONTH_DROPPED, MONTH_DROPPED, draft(b"after")]
    entries, _ = extend(org.id, org.slug, ChainHead(-1, b"", 0), drafts, NOW_US, KEY)
    await written(database, entries)
    assert await rows_of(database, org.id) == entries
    connection = await asyncpg.connect(database.superuser_url)
    try:
        rows = await blocks.rows_between(connection, org.id)
    finally:
        await connection.close()
    assert [(row.first_seq, row.last_seq) for row in rows] == [(seq, seq) for seq in range(4)]
    for row, entry in zip(rows[1:3], entries[1:3], strict=True):
        assert (row.leaves, row.payloads) == (entry.signature + entry.leaf, entry.payload)
