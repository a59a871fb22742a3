"""Every reader returns the entries as they were written, whatever blocks hold them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from ledger.chain import EMPTY_HEAD, StoredEntry, extend
from ledger.entry import RecordId, from_datetime, to_datetime
from ledger.storage.database import Database as Pool
from ledger.storage.entries import blocks, heads, spans, writing
from ledger.storage.entries.blocks import DamagedTrail
from ledger.storage.entries.columns import PAGE_BYTES
from ledger.storage.entries.picked import chosen, receipts, single
from ledger.storage.partitions import create_for
from tests.support.appending import superuser
from tests.support.block_table import column, set_time, wild_partition
from tests.support.changes import Change
from tests.support.clusters import Database
from tests.support.tampering import statement
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, draft

DAY_US = 86_400_000_000
COMMITS: list[list[int]] = [
    [10],
    [0, 70_000],
    [250] * 300,
    [200],
    [3_000_000, 3_000_000, 100],
    [9_000_000],
    *([20] for _ in range(40)),
    [1_200] * 256,
]
"""The sizes of the payloads of each commit; two days pass between two commits."""


def random_payload(rng: random.Random, size: int) -> bytes:
    return rng.randbytes(size // 2) + bytes(size - size // 2)


def trail() -> list[StoredEntry]:
    rng = random.Random(7)
    head, entries = EMPTY_HEAD, []
    for number, sizes in enumerate(COMMITS):
        drafts = [draft(random_payload(rng, size)) for size in sizes]
        made, head = extend(ORG_ID, ORG, head, drafts, NOW_US + 2 * number * DAY_US, KEY)
        entries += made
    return entries


ENTRIES = trail()
LAST = len(ENTRIES) - 1
FIRST_OF_300 = 3
"""The seq of the first entry of the commit of 300; its first block ends at 255."""


@pytest.fixture
async def stored(database: Database) -> AsyncIterator[Pool]:
    """A database with the trail, as its server sees it."""
    pool = await Pool.open(database.server_url)
    await create_for(pool, sorted({entry.anchored_at for entry in ENTRIES}))
    async with pool.connection() as connection:
        for commit in _commits():
            await writing.add(connection, commit)
    yield pool
    await pool.close()


def _commits() -> list[list[StoredEntry]]:
    commits: dict[Any, list[StoredEntry]] = {}
    for entry in ENTRIES:
        commits.setdefault(entry.anchored_at, []).append(entry)
    return list(commits.values())


def place(entry: StoredEntry) -> RecordId:
    return RecordId(ORG_ID, from_datetime(entry.anchored_at), entry.seq)


BLOCK_255 = 255
"""The last seq of the block that the tests damage: the first of the commit of 300."""


async def damage(database: Database, **changes: Change) -> None:
    """Change columns of the block that ends at BLOCK_255."""
    async with superuser(database) as connection:
        await column(connection, ORG_ID, BLOCK_255, **changes)


async def test_one_entry_is_found_by_place_and_by_seq(stored: Pool) -> None:
    for entry in ENTRIES[::7]:
        assert await single.entry(stored, place(entry)) == entry
        assert await single.standing_at(stored, ORG_ID, entry.seq) == entry
        assert await single.count_at(stored, ORG_ID, entry.seq) == 1
        hash_at = await single.stored_hash(stored, ORG_ID, entry.seq, entry.anchored_at)
        assert hash_at == entry.entry_hash
    for before, entry in list(pairwise(ENTRIES))[::11]:
        assert await single.before(stored, entry) == before


async def test_an_entry_that_is_not_there_is_not_found(stored: Pool) -> None:
    entry = ENTRIES[100]
    for wrong in (
        place(entry)._replace(seq=LAST + 1),
        place(entry)._replace(anchored_us=NOW_US),
        place(entry)._replace(org_id=ORG_ID + 1),
    ):
        assert await single.entry(stored, wrong) is None
        assert await single.hash_and_checkpoint(stored, wrong) is None
    assert await single.count_at(stored, ORG_ID, LAST + 1) == 0
    assert await single.before(stored, ENTRIES[0]) is None


async def test_the_hash_for_a_proof_is_read_without_the_payload(stored: Pool) -> None:
    for seq in (0, 2, 100, 255, 256, LAST):
        found = await single.hash_and_checkpoint(stored, place(ENTRIES[seq]))
        assert found == (ENTRIES[seq].entry_hash, None)


@pytest.mark.parametrize(("first", "last"), [(0, LAST), (3, 310), (200, 255), (7, 7), (256, 900)])
async def test_a_span_has_all_its_entries(stored: Pool, first: int, last: int) -> None:
    expected = ENTRIES[first : last + 1]
    assert await spans.entries(stored, ORG_ID, first, last) == expected
    sizes = await spans.sizes(stored, ORG_ID, first, last)
    if last - first < 256:
        assert sizes == [
            (entry.seq, len(entry.leaf) + len(entry.payload), True) for entry in expected
        ]


async def test_leaves_of_a_bundle_are_those_of_the_signed_tree(
    stored: Pool, database: Database
) -> None:
    assert await spans.signed_leaves(stored, ORG_ID, 0, 256) == []
    async with superuser(database) as connection:
        await statement("INSERT INTO trees (org_id, size, root) VALUES ($1, 300, '')")(
            connection, ORG_ID
        )
    for first, upper in ((0, 256), (256, 300), (17, 40)):
        leaves = await spans.signed_leaves(stored, ORG_ID, first, upper)
        assert leaves == [(entry.seq, entry.leaf) for entry in ENTRIES[first:upper]]
    assert await spans.signed_leaves(stored, ORG_ID, 256, 301) == []


async def test_pages_end_by_blocks_and_by_bytes_and_miss_nothing(stored: Pool) -> None:
    found: list[StoredEntry] = []
    async for page in blocks.pages(stored, ORG_ID, 1, LAST):
        assert len(page) <= blocks.PAGE_BLOCKS
        assert sum(map(blocks.raw_size, page[:-1])) < PAGE_BYTES
        found += await blocks.entries_of(page, 1, LAST)
    assert found == ENTRIES[1:]


@pytest.mark.parametrize("step", [1, 2, 19])
async def test_chosen_entries_come_in_pages_by_seq(stored: Pool, step: int) -> None:
    remaining = list(range(0, LAST + 1, step))
    expected = [ENTRIES[seq] for seq in remaining]
    found: list[StoredEntry] = []
    while remaining:
        page = await chosen.page(
            stored, ORG_ID, remaining[:500], ENTRIES[0].anchored_at, ENTRIES[-1].anchored_at
        )
        assert sum(len(entry.payload) for entry in page[:-1]) < PAGE_BYTES
        found += page
        remaining = remaining[len(page) :]
    assert found == expected


async def test_places_and_times_are_read_from_the_keys(stored: Pool) -> None:
    some = ENTRIES[::13]
    wrong = place(ENTRIES[5])._replace(anchored_us=NOW_US)
    seqs = {entry.seq for entry in some}
    assert await chosen.present(stored, ORG_ID, [*map(place, some), wrong]) == seqs
    times = await chosen.times(stored, ORG_ID, [*seqs, LAST + 1])
    assert times == {entry.seq: entry.anchored_at for entry in some}


async def test_receipts_are_read_up_to_a_bound(stored: Pool) -> None:
    seqs = list(range(0, LAST + 1, 3))
    read = await receipts.read(stored, ORG_ID, [*seqs, LAST + 5])
    assert sorted(read.entries) == seqs
    assert not read.unread
    for seq, entry in read.entries.items():
        previous = ENTRIES[seq - 1].entry_hash if seq else b""
        assert (entry.entry_hash, entry.previous_hash) == (ENTRIES[seq].entry_hash, previous)
        assert entry.anchored_at == ENTRIES[seq].anchored_at
    nothing = await receipts.read(stored, ORG_ID, [*seqs, LAST + 5], most_raw_bytes=0)
    assert (nothing.entries, nothing.unread) == ({}, set(seqs))


async def test_the_newest_is_known_from_the_keys(stored: Pool, database: Database) -> None:
    async with superuser(database) as connection:
        await column(connection, ORG_ID, LAST, ends=b"", leaves=b"", payloads=b"")
    async with stored.connection() as connection:
        newest = await heads.newest(connection, ORG_ID)
    last = ENTRIES[-1]
    assert newest == (LAST, last.entry_hash, from_datetime(last.anchored_at))


def with_bad_byte(leaves: bytes) -> bytes:
    """Return the column with another byte in its middle."""
    middle = len(leaves) // 2
    return leaves[:middle] + bytes([leaves[middle] ^ 0xFF]) + leaves[middle + 1 :]


async def test_a_bad_frame_costs_its_own_entries_only(stored: Pool, database: Database) -> None:
    await damage(database, leaves=with_bad_byte)
    lost = []
    for entry in ENTRIES[FIRST_OF_300:256]:
        try:
            assert await single.entry(stored, place(entry)) == entry
        except DamagedTrail:
            lost.append(entry.seq)
    assert 1 <= len(lost) <= 32
    assert lost == list(range(lost[0], lost[-1] + 1))
    for seqs in (lost, range(lost[0] - 1, lost[0] + 1)):
        with pytest.raises(DamagedTrail, match=f"entries {lost[0]} to {lost[-1]}"):
            await spans.entries(stored, ORG_ID, seqs[0], seqs[-1])
    times = ENTRIES[0].anchored_at, ENTRIES[-1].anchored_at
    with pytest.raises(DamagedTrail):
        await chosen.page(stored, ORG_ID, [0, lost[-1], LAST], *times)
    assert await chosen.page(stored, ORG_ID, [0, LAST], *times) == [ENTRIES[0], ENTRIES[-1]]
    read = await receipts.read(stored, ORG_ID, [0, lost[0], LAST])
    assert sorted(read.entries) == [0, LAST]


HOSTILE: dict[str, dict[str, Change]] = {
    "ends of nothing": {"ends": b""},
    "ends without end": {"ends": b"x" * 5_000},
    "no leaves": {"leaves": b""},
    "no payloads": {"payloads": b""},
    "no tags": {"tags": b""},
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_block_is_refused_by_every_reader(
    stored: Pool, database: Database, name: str
) -> None:
    await damage(database, **HOSTILE[name])
    with pytest.raises(DamagedTrail):
        await spans.entries(stored, ORG_ID, 0, LAST)
    with pytest.raises(DamagedTrail):
        await single.entry(stored, place(ENTRIES[100]))
    assert await single.entry(stored, place(ENTRIES[1])) == ENTRIES[1]
    assert await chosen.present(stored, ORG_ID, [place(ENTRIES[100])]) == {100}


async def test_ten_to_the_nine_entries_claimed_cost_nothing(
    stored: Pool, database: Database
) -> None:
    await damage(database, first_seq=-1_000_000_000)
    for reading in (
        spans.entries(stored, ORG_ID, 0, 300),
        spans.sizes(stored, ORG_ID, 100, 355),
        single.standing_at(stored, ORG_ID, 100),
    ):
        with pytest.raises(DamagedTrail, match="1 to 256 entries"):
            await reading
    assert not (await receipts.read(stored, ORG_ID, [100])).entries


async def test_a_time_that_python_can_not_hold_hides_only_its_block(
    stored: Pool, database: Database
) -> None:
    async with superuser(database) as connection, wild_partition(connection):
        await set_time(connection, ORG_ID, BLOCK_255, "200000-01-01Z")
        found = await spans.entries(stored, ORG_ID, 0, 300)
        assert [entry.seq for entry in found] == [*range(FIRST_OF_300), *range(256, 301)]
        assert await single.standing_at(stored, ORG_ID, 100) is None
        assert await chosen.times(stored, ORG_ID, [100, 1]) == {1: to_datetime(NOW_US + 2 * DAY_US)}
