"""A frame that can't be read is named by each reader of its entries; no other entry is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import pytest

from ledger.blocks.block import Block
from ledger.chain import EMPTY_HEAD, ChainHead, StoredEntry, extend
from ledger.entry import RecordId, from_datetime, search_tag, to_datetime
from ledger.storage.database import Database as Pool
from ledger.storage.entries import heads, readable, search, spans, writing
from ledger.storage.entries.blocks import DamagedTrail
from ledger.storage.entries.picked import chosen, receipts, single
from ledger.storage.entries.search import EntrySearch
from ledger.storage.partitions import create_for
from tests.support.appending import superuser
from tests.support.bad_frames import with_bad_frame
from tests.support.block_format import Row
from tests.support.block_table import replace_rows, rows_between, without_triggers
from tests.support.clusters import Database
from tests.support.tampering import statement
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, draft

OTHER_ID: Final = ORG_ID + 1
"""An org whose trail is not damaged."""
BAD: Final = range(32, 64)
"""The seqs of the second frame of a column."""
PLAIN = EntrySearch(0, 0, (), None, None)
BY_ACTOR = EntrySearch(search_tag("ada"), 0, (b'"actor":"ada",',), None, None)
BY_ACTION = EntrySearch(0, 0, (b'"action":"approve",',), None, None)


def trail(org_id: int) -> list[StoredEntry]:
    drafts = [draft(b'{"n": "%064d"}' % number) for number in range(256)]
    return extend(org_id, ORG, EMPTY_HEAD, drafts, NOW_US, KEY)[0]


ENTRIES = trail(ORG_ID)
AT = ENTRIES[0].anchored_at


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """A database with the trails of both orgs, all of them in a signed tree."""
    opened = await Pool.open(database.server_url)
    await create_for(opened, [to_datetime(NOW_US)])
    async with superuser(database) as connection:
        for org_id in (ORG_ID, OTHER_ID):
            await writing.add(connection, trail(org_id))
            for sql in (
                "INSERT INTO trees (org_id, size, root) VALUES ($1, 256, '')",
                "INSERT INTO heads (org_id, seq, entry_hash, anchored_at) "
                f"SELECT $1, 255, '', to_timestamp({NOW_US} / 1e6)",
            ):
                await statement(sql)(connection, org_id)
    yield opened
    await opened.close()


async def spoil(database: Database, column: str) -> None:
    async with superuser(database) as connection:
        (row,) = await rows_between(connection, ORG_ID)
        bad = Row(*with_bad_frame(Block(*row), column))
        async with without_triggers(connection):
            await replace_rows(connection, [row], [bad])


def place(org_id: int, seq: int) -> RecordId:
    return RecordId(org_id, from_datetime(AT), seq)


async def walked(pool: Pool, org_id: int, seq: int) -> list[StoredEntry]:
    """The entries after the one two seqs before, up to a seq, as an append walks them."""
    start, end = (ChainHead(at, b"", from_datetime(AT)) for at in (seq - 2, seq))
    async with pool.connection() as connection:
        pages = heads.between(connection, org_id, start, end, 10)
        return [entry async for page in pages for entry in page]


def page_of(
    where: EntrySearch, *, descending: bool
) -> Callable[[Pool, int, int], Awaitable[object]]:
    """A page of a search that begins with a seq."""
    return lambda pool, org_id, seq: search.page(
        pool, org_id, where, from_seq=seq, descending=descending, limit=2
    )


def places_of(where: EntrySearch) -> Callable[[Pool, int, int], Awaitable[object]]:
    return lambda pool, org_id, seq: search.places(
        pool, org_id, where, from_seq=seq, to_seq=seq, limit=2
    )


OF_LEAVES: dict[str, Callable[[Pool, int, int], Awaitable[object]]] = {
    "hash of one": lambda pool, org_id, seq: single.stored_hash(pool, org_id, seq, AT),
    "hash for a proof": lambda pool, org_id, seq: single.hash_and_checkpoint(
        pool, place(org_id, seq)
    ),
    "leaves of a bundle": lambda pool, org_id, seq: spans.signed_leaves(pool, org_id, seq, seq + 1),
    "places by actor": places_of(BY_ACTOR),
    "places by action": places_of(BY_ACTION),
}
"""Readers of the entry at a seq that need no payload."""
OF_ALL: dict[str, Callable[[Pool, int, int], Awaitable[object]]] = {
    "one by place": lambda pool, org_id, seq: single.entry(pool, place(org_id, seq)),
    "one by seq": single.standing_at,
    "the one before": lambda pool, org_id, seq: single.before(
        pool, ENTRIES[seq + 1]._replace(org_id=org_id)
    ),
    "a span": lambda pool, org_id, seq: spans.entries(pool, org_id, seq, seq),
    "a small span": lambda pool, org_id, seq: readable.small(pool, org_id, seq, seq),
    "chosen ones": lambda pool, org_id, seq: chosen.page(pool, org_id, [seq], AT, AT),
    "a walk": walked,
    "a page": page_of(PLAIN, descending=False),
    "a page by actor": page_of(BY_ACTOR, descending=True),
    "a page by action": page_of(BY_ACTION, descending=True),
}
"""Readers of the entry at a seq, with its payload."""


async def failure(reading: Awaitable[object]) -> str | None:
    """Return why a reader failed; None: it read the entry."""
    try:
        assert await reading
    except DamagedTrail as error:
        return str(error)
    return None


@pytest.mark.parametrize("column", ["leaves", "payloads"])
async def test_each_reader_names_what_it_can_not_read(
    pool: Pool, database: Database, column: str
) -> None:
    await spoil(database, column)
    named = (
        "entries 32 to 63 can't be read: the frame of its entries 32 to 63 has not "
        "the bytes that were written. Run a full verification of this trail"
    )
    for name, read in {**OF_LEAVES, **OF_ALL}.items():
        fails = name in OF_ALL or column == "leaves"
        assert await failure(read(pool, ORG_ID, BAD[8])) == (named if fails else None), name


@pytest.mark.parametrize("column", ["leaves", "payloads"])
async def test_entries_of_other_frames_and_orgs_are_read_as_before(
    pool: Pool, database: Database, column: str
) -> None:
    readers = {**OF_LEAVES, **OF_ALL}
    reads = [(ORG_ID, seq) for seq in (2, BAD[0] - 3, BAD[-1] + 5, 250)] + [(OTHER_ID, BAD[8])]
    before = [await read(pool, *at) for read in readers.values() for at in reads]
    await spoil(database, column)
    assert [await read(pool, *at) for read in readers.values() for at in reads] == before


@pytest.mark.parametrize("column", ["leaves", "payloads"])
async def test_entries_beside_a_bad_frame_are_read(
    pool: Pool, database: Database, column: str
) -> None:
    """Also the one whose stored hash the first leaf of the bad frame names."""
    await spoil(database, column)
    for seq in (BAD[0] - 1, BAD[-1] + 1):
        expected = ENTRIES[seq].entry_hash
        assert await single.stored_hash(pool, ORG_ID, seq, AT) == expected
        found = await single.entry(pool, place(ORG_ID, seq))
        assert found is not None
        assert found.entry_hash == expected


@pytest.mark.parametrize("column", ["leaves", "payloads"])
async def test_readers_of_what_is_left_leave_out_the_bad_frame_only(
    pool: Pool, database: Database, column: str
) -> None:
    await spoil(database, column)
    others = [seq for seq in range(256) if seq not in BAD]
    found = await readable.readable(pool, ORG_ID, 0, 255)
    assert [entry.seq for entry in found.entries] == others
    assert [(one.first_seq, one.last_seq) for one in found.unreadable] == [(BAD[0], BAD[-1])]
    written = await receipts.read(pool, ORG_ID, range(256))
    assert sorted(written.entries) == (others if column == "leaves" else [*range(256)])
    assert not written.unread
    for seq, receipt in written.entries.items():
        previous = ENTRIES[seq - 1].entry_hash if seq else b""
        assert (receipt.entry_hash, receipt.previous_hash) == (ENTRIES[seq].entry_hash, previous)
