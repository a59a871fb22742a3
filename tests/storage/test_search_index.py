"""A search by the index finds what a look at every entry finds, whatever is done to its rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from ledger.blocks.postings import RUN_BITS, RUN_LEVEL
from ledger.entry import MAX_SEQ, search_tag
from ledger.storage.entries import writing
from ledger.storage.indexing import IndexerConnection, unindexed
from tests.support import blocks, clusters
from tests.support.blocks import TABLE
from tests.support.search_index import (
    BORDERS,
    SECOND_US,
    EndedEarly,
    IndexedTrail,
    MadeTrail,
    by,
    draft,
    indexed_trail,
    people,
)
from tests.support.trails import NOW_US, ORG_ID

SEARCHES = {
    "actor": by(actor="a7"),
    "frequent actor": by(actor="busy"),
    "subject": by(subject="s3"),
    "both": by(actor="busy", subject="s3"),
    "actor and type": by(actor="busy", kind="rare"),
    "nobody": by(actor="nobody"),
    "since": by(subject="s3", since_us=NOW_US + 900 * SECOND_US),
    "between": by(actor="a7", since_us=NOW_US + SECOND_US, until_us=NOW_US + 1_500 * SECOND_US),
}
LONG = BORDERS[-1]


@pytest.fixture
async def growing_trail(database: clusters.Database) -> AsyncIterator[IndexedTrail]:
    async with indexed_trail(database) as one:
        yield one


@pytest.fixture(scope="module")
def long_database(database_of_module: clusters.Database) -> tuple[clusters.Database, MadeTrail]:
    """A database with an indexed trail of a stretch and one more entry."""

    async def make() -> MadeTrail:
        async with indexed_trail(database_of_module) as one:
            await one.append(people(LONG, busy=0.3))
            await one.build()
            return await one.made()

    return database_of_module, clusters.blocking(make())


@pytest.fixture
async def long_trail(
    long_database: tuple[clusters.Database, MadeTrail],
) -> AsyncIterator[IndexedTrail]:
    """The long trail; the rows of its index are as they were after the test."""
    database, made = long_database
    async with indexed_trail(database) as one:
        one.know(made)
        yield one
        await one.put_back(made)


async def require_all_found(growing_trail: IndexedTrail, floor: int = 0) -> None:
    """Every search finds the same with the index as a look at every entry."""
    for name, where in SEARCHES.items():
        expected = growing_trail.expected(where, floor)
        assert await growing_trail.find(where, floor=floor) == expected, name
        found = await growing_trail.find(where, descending=True, floor=floor)
        assert found == expected[::-1], name


@pytest.mark.parametrize("busy", [0.0, 0.9])
async def test_every_search_is_complete_at_every_length(
    growing_trail: IndexedTrail, busy: float
) -> None:
    drafts = people(LONG, busy=busy)
    for before, length in zip((0, *BORDERS), BORDERS, strict=False):
        await growing_trail.append(drafts[before:length])
        await require_all_found(growing_trail)
        await growing_trail.build()
        await require_all_found(growing_trail)
        assert await growing_trail.find(SEARCHES["both"], limit=7) == growing_trail.expected(
            SEARCHES["both"]
        )
    assert growing_trail.reported == []


async def test_the_index_is_what_finds(growing_trail: IndexedTrail) -> None:
    """Entries of whole runs are found although the tags of their blocks were exchanged."""
    await growing_trail.append(people(2_000))
    await growing_trail.build()
    await exchange_tags(growing_trail)
    where = SEARCHES["actor"]
    found = [seq for seq in growing_trail.expected(where) if seq < 1_024]
    assert found
    assert await growing_trail.find(where) == found
    assert await growing_trail.find(where, index=False) == []


async def exchange_tags(growing_trail: IndexedTrail) -> None:
    for row in await blocks.rows_between(growing_trail.superuser, ORG_ID):
        await blocks.column(
            growing_trail.superuser, ORG_ID, row.last_seq, tags=bytes(len(row.tags))
        )


DAMAGES = {
    "a bucket is removed": "DELETE FROM tag_runs WHERE level = 1 AND bucket = {actor}",
    "a frequent tag is removed": "DELETE FROM tag_runs WHERE level = 1 AND bucket = 256 + {busy}",
    "all buckets are removed": "DELETE FROM tag_runs WHERE level = 1 AND bucket < 255",
    "a run is removed": "DELETE FROM tag_runs WHERE level = 0 AND stretch = 3 OR level = 1",
    "a bucket is emptied": "UPDATE tag_runs SET postings = '\\x0000' WHERE level = 1",
    "a run is emptied": "UPDATE tag_runs SET postings = '' WHERE level = 0 OR level = 1",
    "a hit is changed": "UPDATE tag_runs SET postings = set_bit(postings, 40, 1 - get_bit(postings, 40))"
    " WHERE level = 0 OR octet_length(postings) > 20",
    "postings are too long": "UPDATE tag_runs SET postings = postings || '\\x00'",
    "rows change places": "UPDATE tag_runs SET bucket = (bucket + 1) % 256 WHERE level = 1"
    " AND bucket < 256",
    "another time": "UPDATE tag_runs SET ended_at = ended_at + interval '1 second'",
    "a time of no calendar": "UPDATE tag_runs SET ended_at = 'infinity'",
    "all rows are removed": "DELETE FROM tag_runs",
    "the newest rows are removed": "DELETE FROM tag_runs WHERE level = 1 OR stretch > 5",
    "another MAC": "UPDATE tag_runs SET mac = sha256(mac)",
}
SILENT = ("all rows are removed", "the newest rows are removed")
"""What looks like an index that is behind; verification tells it."""


@pytest.mark.parametrize("name", DAMAGES)
async def test_no_damage_hides_an_entry_and_it_is_reported(
    long_trail: IndexedTrail, name: str
) -> None:
    tags = {"actor": search_tag("a7") >> 16, "busy": search_tag("busy")}
    await long_trail.tamper(DAMAGES[name].format(**tags))
    await require_all_found(long_trail)
    assert bool(long_trail.reported) is (name not in SILENT)


async def test_rows_planted_by_the_role_of_the_index_hide_nothing(
    long_trail: IndexedTrail,
) -> None:
    """It may add rows: at places that have one, at free ones, far beyond the trail."""
    await as_indexer(
        long_trail,
        "INSERT INTO tag_runs SELECT org_id, level, stretch, bucket, sha256(mac || n::text::bytea),"
        " ended_at, '' FROM tag_runs, generate_series(1, 3) AS n WHERE bucket < 260 AND level = 1;"
        "INSERT INTO tag_runs SELECT org_id, level, stretch + 1000, bucket, mac, ended_at, postings"
        " FROM tag_runs WHERE mac > '\\x80' AND bucket < 100;"
        "INSERT INTO tag_runs SELECT org_id, level, 16, bucket, mac, ended_at, postings FROM tag_runs"
        " WHERE level = 0 AND stretch = 1",
    )
    await require_all_found(long_trail)
    await as_indexer(
        long_trail,
        "INSERT INTO tag_runs SELECT org_id, level, stretch, bucket, int4send(n) || substr(mac, 5),"
        " ended_at, '' FROM tag_runs, generate_series(1, 9) AS n WHERE stretch = 0 AND bucket < 256",
    )
    await require_all_found(long_trail)
    assert long_trail.reported


async def as_indexer(growing_trail: IndexedTrail, statement: str) -> None:
    async with growing_trail.superuser.transaction():
        await growing_trail.superuser.execute("SET LOCAL ROLE quire_indexer")
        await growing_trail.superuser.execute(statement)


async def test_rows_of_entries_that_were_replaced_hide_no_new_one(
    growing_trail: IndexedTrail,
) -> None:
    """After a trail was cut and continued with other entries, its rows name hashes that are gone."""
    await growing_trail.append(people(3_000, seed=1))
    await growing_trail.build()
    await growing_trail.cut(700)
    await growing_trail.append(people(2_500, seed=2))
    await require_all_found(growing_trail)
    assert growing_trail.reported
    await growing_trail.build()
    growing_trail.reported.clear()
    await require_all_found(growing_trail)
    assert growing_trail.reported == []


async def test_two_blocks_for_the_same_seqs_are_both_shown(growing_trail: IndexedTrail) -> None:
    await growing_trail.append([draft("a7", None)] * 1_500, commit=200)
    await growing_trail.build()
    later = timedelta(microseconds=1)
    planted = [
        entry._replace(anchored_at=entry.anchored_at + later) for entry in growing_trail.entries
    ]
    await writing.add(growing_trail.superuser, planted[300:310])
    where = SEARCHES["actor"]
    for descending in (False, True):
        found = await growing_trail.find(where, descending=descending)
        assert sorted(found) == sorted([*range(1_500), *range(300, 310)])


async def test_missing_entries_hide_no_other(growing_trail: IndexedTrail) -> None:
    """Those of a run that was indexed, and of one that was not: it gets no row then."""
    await growing_trail.append(people(1_500))
    await growing_trail.build()
    await growing_trail.append(people(4_000, seed=2))
    await blocks.remove(growing_trail.superuser, ORG_ID, 500, 520)
    await blocks.remove(growing_trail.superuser, ORG_ID, 3_000, 3_300)
    growing_trail.entries = [
        e for e in growing_trail.entries if not (500 <= e.seq <= 520 or 3_000 <= e.seq <= 3_300)
    ]
    await require_all_found(growing_trail)
    await growing_trail.build()
    await require_all_found(growing_trail)
    assert [row[2] for row in await growing_trail.rows()] == [0, 1, 4]


async def test_a_head_beyond_the_entries_is_not_followed(growing_trail: IndexedTrail) -> None:
    await growing_trail.append(people(1_100))
    await growing_trail.set_head(growing_trail.head._replace(seq=MAX_SEQ))
    await growing_trail.build()
    assert len(await growing_trail.rows()) == 1


async def test_dropped_entries_are_not_found_and_not_missed(growing_trail: IndexedTrail) -> None:
    """Their hits stay in rows that are older; newer rows have none. A run without entries has no row."""
    drafts = people(LONG + 2_000, busy=0.3)
    await growing_trail.append(drafts[:15_000])
    await growing_trail.build()
    floor = await growing_trail.drop(3_000)
    await require_all_found(growing_trail, floor)
    await growing_trail.append(drafts[15_000:])
    await growing_trail.build()
    await require_all_found(growing_trail, floor)
    assert growing_trail.reported == []
    await growing_trail.tamper("DELETE FROM tag_runs")
    await growing_trail.build()
    await require_all_found(growing_trail, floor)
    assert growing_trail.reported == []
    runs = [row[2] for row in await growing_trail.rows() if row[1] == RUN_LEVEL]
    assert runs == list(range(floor >> RUN_BITS, len(drafts) >> RUN_BITS))


async def test_a_builder_that_ends_between_any_two_writes_is_continued(
    long_trail: IndexedTrail,
) -> None:
    """The rows are those of one that was not interrupted, after builders that wrote twice each."""
    whole = await long_trail.rows()
    await long_trail.tamper("DELETE FROM tag_runs")
    for _ in range(8):
        with pytest.raises(EndedEarly):
            await long_trail.build(writes=2)
        assert len(await long_trail.rows()) < len(whole)
        await long_trail.find(SEARCHES["actor"])
    await long_trail.build()
    assert await long_trail.rows() == whole
    assert long_trail.reported == []


async def test_two_builders_at_once_add_each_row_once(long_trail: IndexedTrail) -> None:
    whole = await long_trail.rows()
    await long_trail.tamper("DELETE FROM tag_runs")
    await asyncio.gather(*(long_trail.build(alone=False) for _ in range(2)))
    assert await long_trail.rows() == whole


async def test_one_builder_at_a_time_has_the_lock(growing_trail: IndexedTrail) -> None:
    url = growing_trail.database.server_url
    async with IndexerConnection.open(url) as one, IndexerConnection.open(url) as other:
        assert await one.lead()
        assert not await other.lead()
        assert 'application "quire indexer"' in await other.leader()


async def test_the_lag_counts_entries_of_whole_runs(growing_trail: IndexedTrail) -> None:
    await growing_trail.append(people(1_023))
    assert await unindexed(growing_trail.pool) == 0
    await growing_trail.append(people(2_000))
    assert await unindexed(growing_trail.pool) == 2_048
    await growing_trail.build()
    assert await unindexed(growing_trail.pool) == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tag_runs SET postings = ''",
        "DELETE FROM tag_runs",
        "TRUNCATE tag_runs",
        "INSERT INTO tag_runs SELECT * FROM tag_runs ON CONFLICT (org_id, level, stretch, bucket, mac)"
        " DO UPDATE SET postings = ''",
    ],
)
async def test_nobody_changes_a_row(long_trail: IndexedTrail, statement: str) -> None:
    database = long_trail.database
    for url, reason in (
        (database.server_url, "permission denied"),
        (database.owner_url, "the trail is append-only"),
        (database.superuser_url, "the trail is append-only"),
    ):
        await refused(url, statement, reason)
    await refused(database.server_url, f"SET ROLE quire_indexer; {statement}", "permission denied")


@pytest.mark.parametrize(
    "statement",
    [
        f"SELECT leaves FROM {TABLE}",
        f"SELECT payloads FROM {TABLE}",
        f"INSERT INTO {TABLE} SELECT * FROM {TABLE}",
        "UPDATE heads SET seq = 0",
        "SELECT entry_hash FROM heads",
        "SELECT * FROM orgs",
        "SELECT * FROM subjects",
        "INSERT INTO security_events (kind, detail) VALUES ('', '')",
    ],
)
async def test_the_role_of_the_index_has_no_right_it_does_not_need(
    long_trail: IndexedTrail, statement: str
) -> None:
    url = long_trail.database.server_url
    await refused(url, f"SET ROLE quire_indexer; {statement}", "permission denied")


async def refused(url: str, statement: str, reason: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=reason):
            await connection.execute(statement)
    finally:
        await connection.close()
