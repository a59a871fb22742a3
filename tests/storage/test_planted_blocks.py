"""Blocks that the owner planted: no reader needs much memory, and none hides another entry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import asyncpg
import pytest

from ledger.chain import EMPTY_HEAD, ChainHead, StoredEntry, extend
from ledger.entry import from_datetime
from ledger.storage.database import Database as Pool
from ledger.storage.entries import blocks, heads, search, writing
from ledger.storage.entries.picked import chosen
from ledger.storage.entries.search import EntrySearch
from ledger.storage.partitions import create_for
from tests.support.block_format import encode
from tests.support.block_table import set_time, wild_partition, write_rows
from tests.support.clusters import Database
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, draft

COUNT = 200
ENTRIES = extend(
    ORG_ID, ORG, EMPTY_HEAD, [draft(b"payload %d" % n * 3) for n in range(COUNT)], NOW_US, KEY
)[0]
AT = ENTRIES[0].anchored_at
LARGE_BYTES = 24 << 20
LATER = timedelta(seconds=1)


@pytest.fixture
async def stored(database: Database) -> AsyncIterator[Pool]:
    """A database with a trail of one block, as its server sees it."""
    pool = await Pool.open(database.server_url)
    await create_for(pool, [AT])
    async with pool.connection() as connection:
        await writing.add(connection, ENTRIES)
    yield pool
    await pool.close()


async def plant(pool: Pool, *groups: Sequence[StoredEntry]) -> None:
    async with pool.connection() as connection:
        await write_rows(connection, [encode(group) for group in groups])


def later(entries: Sequence[StoredEntry], seconds: int) -> list[StoredEntry]:
    return [
        entry._replace(anchored_at=entry.anchored_at + timedelta(seconds=seconds))
        for entry in entries
    ]


async def test_blocks_planted_at_one_seq_are_not_all_read(stored: Pool) -> None:
    copies = [later([ENTRIES[5]], seconds) for seconds in range(1, 401)]
    await plant(stored, *copies)
    found = await blocks.holding(stored, ORG_ID, [4, 5, 6])
    assert len(found) == 5
    assert [entry.seq for entry in await chosen.page(stored, ORG_ID, [4, 5, 6], AT, AT)] == [
        4,
        5,
        6,
    ]


def bomb() -> StoredEntry:
    """An entry whose payload compresses to almost nothing."""
    head = ChainHead(COUNT - 1, ENTRIES[-1].entry_hash, from_datetime(AT))
    (entry,), _ = extend(ORG_ID, ORG, head, [draft(bytes(LARGE_BYTES))], NOW_US + 1_000, KEY)
    return entry


async def test_large_payloads_of_heads_are_not_inflated_together(
    stored: Pool, database: Database
) -> None:
    entry = bomb()
    await plant(stored, [entry])
    connection = await asyncpg.connect(database.superuser_url)
    try:
        await connection.execute(
            "INSERT INTO heads (org_id, seq, entry_hash, anchored_at) VALUES ($1, $2, $3, $4)",
            ORG_ID, entry.seq, entry.entry_hash, entry.anchored_at,
        )  # fmt: skip
    finally:
        await connection.close()
    async with stored.connection() as connection, connection.transaction():
        locked = (await heads.lock(connection, [ORG_ID]))[ORG_ID]
        assert locked.entry is None
        assert locked.damage is None
        assert (await heads.with_payload(connection, locked)).entry == entry


@pytest.mark.parametrize("time", ["200000-01-01Z", "infinity", "0044-03-15 BC"])
async def test_a_time_that_python_can_not_hold_fails_no_search_by_time(
    stored: Pool, database: Database, time: str
) -> None:
    await plant(stored, later([ENTRIES[100]], 1))
    last = ENTRIES[-1]
    connection = await asyncpg.connect(database.superuser_url)
    try:
        await connection.execute(
            "INSERT INTO heads (org_id, seq, entry_hash, anchored_at) VALUES ($1, $2, $3, $4)",
            ORG_ID, last.seq, last.entry_hash, AT,
        )  # fmt: skip
        async with wild_partition(connection):
            await set_time(connection, ORG_ID, 100, time)
            for since, until in ((AT - LATER, None), (None, AT + LATER)):
                where = EntrySearch(0, 0, (), since, until)
                page = await search.page(
                    stored, ORG_ID, where, from_seq=None, descending=False, limit=COUNT
                )
                assert page.entries == ENTRIES
    finally:
        await connection.close()
