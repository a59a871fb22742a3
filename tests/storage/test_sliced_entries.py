"""A search by the index reads slices of blocks, and finds and names the same as without them."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from ledger.blocks.block import Block
from ledger.blocks.layout import FRAME_BYTES
from ledger.blocks.slices import entry_in
from ledger.chain import StoredEntry
from ledger.storage.entries import search, writing
from ledger.storage.entries.blocks import DamagedTrail
from ledger.storage.entries.indexing.lookup import SearchIndex
from ledger.storage.entries.searching import block_rows
from ledger.storage.entries.searching.block_rows import BlockRange
from tests.support import clusters
from tests.support.bad_frames import with_bad_frame
from tests.support.block_format import Row
from tests.support.block_table import (
    replace_rows,
    rows_between,
    store_outside,
    without_triggers,
)
from tests.support.search_index import INDEX_KEY, IndexedTrail, by, draft, indexed_trail, people
from tests.support.trails import ORG_ID

HERE = 300
"""A seq of the block from 256 to 511, and of its second frame."""


@pytest.fixture
async def sliced_trail(database: clusters.Database) -> AsyncIterator[IndexedTrail]:
    """An indexed trail: whole blocks, one with irregular frames, and blocks of one entry."""
    async with indexed_trail(database) as one:
        await one.append(people(1_024, crowd=100), commit=256)
        large = [draft("large", None, payload=b"x" * (FRAME_BYTES + at)) for at in range(2)]
        await one.append([*large, *people(254, crowd=100)], commit=256)
        await one.append(people(20), commit=1)
        await one.append(people(1_000), commit=1_000)
        await one.build()
        yield one


def actor_of(entry: StoredEntry) -> bytes:
    """Return the actor that a leaf names; none has a quotation mark in its name."""
    return entry.leaf.split(b'"actor":"')[1].split(b'"')[0]


async def by_slices(
    sliced_trail: IndexedTrail, first: int, last: int
) -> dict[int, StoredEntry | None]:
    span = BlockRange(ORG_ID, first, last, descending=False)
    async with sliced_trail.pool.transaction() as connection:
        await connection.execute(search.IN_ORDER)
        seqs = range(first, last + 1)
        slices = await block_rows.slices_of(connection, span, None, seqs)
    assert [one.seq for one in slices] == [*seqs]
    return {one.seq: entry_in(ORG_ID, one) for one in slices}


async def test_the_database_cuts_the_slices_of_each_entry(sliced_trail: IndexedTrail) -> None:
    """Of blocks with irregular frames, the entry or nothing."""
    for first, last in ((0, 1_023), (1_280, 1_299), (1_300, len(sliced_trail.entries) - 1)):
        found = await by_slices(sliced_trail, first, last)
        assert [*found.values()] == sliced_trail.entries[first : last + 1]
    found = await by_slices(sliced_trail, 1_024, 1_279)
    assert all(entry in (sliced_trail.entries[seq], None) for seq, entry in found.items())


def with_ends(block: Block, number: int, value: int) -> Block:
    """Return the block with another number in ``ends``."""
    at = 1 + 4 * (number % (len(block.ends) // 4))
    return block._replace(ends=block.ends[:at] + struct.pack(">I", value) + block.ends[at + 4 :])


UNREADABLE: dict[str, Callable[[Block], Block]] = {
    "a frame of leaves": lambda block: with_bad_frame(block, "leaves"),
    "a frame of payloads": lambda block: with_bad_frame(block, "payloads"),
    "no ends": lambda block: block._replace(ends=b""),
    "ends of another version": lambda block: block._replace(ends=b"\2" + block.ends[1:]),
    "ends of megabytes": lambda block: block._replace(ends=block.ends + bytes(9 << 20)),
    "no leaves": lambda block: block._replace(leaves=b""),
    "no payloads": lambda block: block._replace(payloads=b""),
    "frames that end nowhere": lambda block: with_ends(block, -1, 2**32 - 1),
    "frames that end before they begin": lambda block: with_ends(block, 2 * 256 + 1, 0),
    "an entry that ends nowhere": lambda block: with_ends(block, HERE - 256, 2**31),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_damaged_block_is_named_by_a_search_as_without_the_index(
    sliced_trail: IndexedTrail, name: str
) -> None:
    await store_outside(sliced_trail.superuser, "ends")  # as long as the owner likes
    (row,) = await rows_between(sliced_trail.superuser, ORG_ID, HERE, HERE)
    async with without_triggers(sliced_trail.superuser):
        changed = Row(*UNREADABLE[name](Block(*row)))
        await replace_rows(sliced_trail.superuser, [row], [changed])
    found = await by_slices(sliced_trail, 256, 511)
    assert all(entry in (sliced_trail.entries[seq], None) for seq, entry in found.items())
    assert None in found.values()
    actor = actor_of(sliced_trail.entries[HERE]).decode()
    outcomes = []
    for index in (SearchIndex(INDEX_KEY, unreported), None):
        seen: list[object] = []
        at: int | None = 0
        while at is not None and len(seen) < 100:
            try:
                page = await search.page(
                    sliced_trail.pool, ORG_ID, by(actor=actor), from_seq=at, descending=False, limit=10,
                    index=index,
                )  # fmt: skip
            except DamagedTrail as error:
                seen.append(str(error))
                break
            seen += page.entries
            at = page.next_seq
        outcomes.append(seen)
    assert outcomes[0] == outcomes[1]


async def test_blocks_planted_between_two_entries_of_a_block_hide_none(
    sliced_trail: IndexedTrail,
) -> None:
    """So many that the block is not among those which are looked at for the first entry."""
    of_actors: dict[bytes, list[int]] = {}
    for entry in sliced_trail.entries[256:512]:
        of_actors.setdefault(actor_of(entry), []).append(entry.seq)
    actor, seqs = max(of_actors.items(), key=lambda one: one[1][-1] - one[1][0])
    first, last = seqs[0], seqs[-1]
    later = timedelta(microseconds=1)
    between = [
        entry for entry in sliced_trail.entries[first + 1 : last : 2] if entry.seq not in seqs
    ][:5]
    assert len(between) == 5
    for entry in between:
        planted = entry._replace(anchored_at=entry.anchored_at + later)
        await writing.add(sliced_trail.superuser, [planted])
    where = by(actor=actor.decode())
    for descending in (False, True):
        found = await sliced_trail.find(where, descending=descending, limit=10)
        assert sorted(found) == sliced_trail.expected(where)


async def unreported(_org_id: int, rows: object) -> None:
    raise AssertionError(rows)
