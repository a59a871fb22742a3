"""A restored trail is in the blocks in which it was appended, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger.archive.restore import run as restoring
from ledger.archive.restore.run import Restore
from ledger.archive.targets import Target
from ledger.chain import StoredEntry, extend
from ledger.entry import MAX_SEQ
from ledger.storage import database as storage
from ledger.storage.entries import spans
from ledger.storage.entries.blocks import overlapping
from tests.support.archives import SignedTrail
from tests.support.blocks import rows_between
from tests.support.clusters import Cluster, Database
from tests.support.restoring import contents, restore_inputs, signed_trail_of
from tests.support.retaining import FEBRUARY, JANUARY, MARCH, moment, retaining, set_retention
from tests.support.search_index import built_rows
from tests.support.trails import KEY, ORG, ORG_ID, draft

MIB = 1 << 20


@pytest.fixture
def migrated_database(postgres_cluster: Cluster) -> Iterator[Database]:
    """A migrated database without rows."""
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)


async def borders(database: Database) -> list[tuple[int, int]]:
    """The first and last seq of all blocks of the trail, in order."""
    pool = await storage.Database.open(database.server_url, size=1)
    try:
        found = await overlapping(pool, ORG_ID, 0, MAX_SEQ, limit=1_000)
    finally:
        await pool.close()
    return [(block.first_seq, block.last_seq) for block in found]


@pytest.mark.parametrize("at_once", [1, 255, 300, 4_096])
async def test_however_many_entries_are_restored_at_once(
    archived_trail: SignedTrail,
    folder: Target,
    migrated_database: Database,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
) -> None:
    await archived_trail.grow(1, 1, 700, 256, 3, 255, 256, 257, 600)
    await archived_trail.archive(folder)
    before = await contents(archived_trail.database)
    assert [last for _, last in await borders(archived_trail.database)] == [
        0, 1, 255, 511, 701, 767, 957, 960, 1023, 1215, 1279, 1471, 1535, 1728, 1791, 2047, 2303,
        2328,
    ]  # fmt: skip
    monkeypatch.setattr(restoring, "ENTRIES_AT_ONCE", at_once)
    await Restore(folder, migrated_database.owner_url, restore_inputs()).run([ORG])
    assert await contents(migrated_database) == before


async def test_the_search_index_of_a_restored_trail_is_built_anew(
    archived_trail: SignedTrail, folder: Target, migrated_database: Database
) -> None:
    await archived_trail.grow(1, 1_500, 700)
    await archived_trail.archive(folder)
    await Restore(folder, migrated_database.owner_url, restore_inputs()).run([ORG])
    before = await built_rows(archived_trail.database)
    assert len(before) == 2
    assert await built_rows(migrated_database) == before


@pytest.mark.parametrize("at_once", [MIB, 4 * MIB + 1, 32 * MIB])
async def test_blocks_that_end_by_their_size(
    archived_trail: SignedTrail,
    folder: Target,
    migrated_database: Database,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
) -> None:
    await archived_trail.grow(9, payload_bytes=MIB)
    await archived_trail.grow(2, payload_bytes=5 * MIB)
    await archived_trail.archive(folder)
    before = await contents(archived_trail.database)
    assert [last for _, last in await borders(archived_trail.database)] == [3, 7, 8, 9, 10]
    monkeypatch.setattr(restoring, "BYTES_AT_ONCE", at_once)
    await Restore(folder, migrated_database.owner_url, restore_inputs()).run([ORG])
    assert await contents(migrated_database) == before


async def test_a_month_that_was_dropped_is_restored_and_dropped_again(
    archived_trail: SignedTrail, folder: Target, migrated_database: Database
) -> None:
    for month, commits in ((JANUARY, (1, 255, 257, 600)), (FEBRUARY, (256, 2)), (MARCH, (5,))):
        await archived_trail.grow(*commits, now_us=moment(month))
    await archived_trail.grow(2, payload_bytes=5 * MIB, now_us=moment(MARCH))
    await archived_trail.archive(folder)
    before = await rows_between(archived_trail.superuser, ORG_ID)
    later = [row for row in before if row.first_seq >= 1_113]
    await drop_january(archived_trail, folder)
    assert await rows_between(archived_trail.superuser, ORG_ID) == later
    await Restore(folder, migrated_database.owner_url, restore_inputs()).run([ORG])
    async with signed_trail_of(migrated_database, archived_trail) as again:
        assert await rows_between(again.superuser, ORG_ID) == before
        await again.archive(folder)
        await drop_january(again, folder)
        assert await rows_between(again.superuser, ORG_ID) == later


async def drop_january(trail: SignedTrail, folder: Target) -> None:
    """Drop the first month of the trail, of 1,113 entries."""
    await set_retention(trail, 1)
    async with retaining(trail, folder) as retention:
        dropped = await retention.drop_month(JANUARY)
    assert dropped is not None
    assert dropped.entries == 1_113


async def test_commits_of_one_microsecond_are_restored_as_one(
    archived_trail: SignedTrail, folder: Target, migrated_database: Database
) -> None:
    """A clock that was set back gives later commits the time of the head."""
    await archived_trail.grow(3)
    again, archived_trail.head = extend(
        ORG_ID, ORG, archived_trail.head, [draft(b"later")] * 2, 0, KEY
    )
    await archived_trail.put_rows(again)
    await archived_trail.grow(1)
    await archived_trail.archive(folder)
    assert await borders(archived_trail.database) == [(0, 2), (3, 4), (5, 5)]
    await Restore(folder, migrated_database.owner_url, restore_inputs()).run([ORG])
    assert await borders(migrated_database) == [(0, 4), (5, 5)]
    assert await entries_of(migrated_database) == await entries_of(archived_trail.database)


async def entries_of(database: Database) -> list[StoredEntry]:
    """The entries of the trail."""
    pool = await storage.Database.open(database.server_url, size=1)
    try:
        return await spans.entries(pool, ORG_ID, 0, 255)
    finally:
        await pool.close()
