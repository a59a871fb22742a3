"""One entry inside a block: its hash is the one that the next leaf names, unless that is to blame."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from ledger.chain import EMPTY_HEAD
from ledger.core.reading.trail import TrailReader
from ledger.core.verification.rows.own_hash import with_own_hash
from ledger.core.verification.single import RecordChecks, verify_entry
from ledger.entry import to_datetime
from ledger.storage.database import Database as Pool
from ledger.storage.entries import writing
from ledger.storage.partitions import create_for
from tests.support.appending import superuser
from tests.support.blocks import Connection, edit, flip_link, raw_bit
from tests.support.clusters import Database
from tests.support.trails import NOW_US, ORG, ORG_ID, RING, trail

LAST = 39
ALL_RIGHT = [True, True, True, True]


class StoredTrail(NamedTuple):
    """A trail of one block, and the superuser who tampers with it."""

    pool: Pool
    superuser: Connection

    async def checks(self, seq: int) -> list[object]:
        """Verify one entry as the server does; returns the answers, without inclusion."""
        reader = TrailReader(self.pool)
        row = await reader.row_at(ORG_ID, seq)
        assert row is not None
        before = await reader.entry_before(row)
        result = verify_entry(
            await with_own_hash(self.pool, row, RING),
            None if before is None else await with_own_hash(self.pool, before, RING),
            ORG,
            RING,
            timestamp="",
        )
        return [getattr(result.checks, name) for name in RecordChecks.__struct_fields__[:4]]


@pytest.fixture
async def stored(database: Database) -> AsyncIterator[StoredTrail]:
    pool = await Pool.open(database.server_url)
    await create_for(pool, [to_datetime(NOW_US)])
    async with superuser(database) as connection:
        await writing.add(connection, trail(LAST + 1, EMPTY_HEAD)[0])
        yield StoredTrail(pool, connection)
    await pool.close()


async def test_right_entries(stored: StoredTrail) -> None:
    assert [await stored.checks(seq) for seq in (0, 10, LAST)] == [ALL_RIGHT] * 3


async def test_a_wrong_link_is_the_fault_of_the_entry_that_has_it(stored: StoredTrail) -> None:
    await flip_link(stored.superuser, ORG_ID, 10, 3)
    assert await stored.checks(10) == ALL_RIGHT
    assert await stored.checks(11) == [False, True, False, True]
    assert await stored.checks(12) == ALL_RIGHT


async def test_an_edited_leaf_has_another_hash_than_the_next_entry_names(
    stored: StoredTrail,
) -> None:
    await edit(stored.superuser, ORG_ID, 10, leaf=lambda leaf: leaf.replace(b"approve", b"approvf"))
    assert await stored.checks(10) == [False, True, True, True]
    assert [await stored.checks(seq) for seq in (9, 11)] == [ALL_RIGHT] * 2


async def test_the_hash_of_a_block_is_that_of_its_last_entry(stored: StoredTrail) -> None:
    await raw_bit(stored.superuser, ORG_ID, LAST, "last_hash", 5)
    assert await stored.checks(LAST) == [False, False, True, True]
    assert await stored.checks(LAST - 1) == ALL_RIGHT
