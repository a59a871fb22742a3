"""A full verification compares the search index with the entries; a rebuild repairs it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ledger.core.indexing.rebuilding import RebuiltIndex, rebuild
from ledger.core.verification.run import TrailRange, verify_trail
from ledger.core.verification.work.faults import Result
from tests.support import blocks, clusters
from tests.support.search_index import (
    INDEX_KEY,
    IndexedTrail,
    MadeTrail,
    by,
    indexed_trail,
    people,
)
from tests.support.trails import ORG, ORG_ID, RING

LENGTH = 16_384 + 2_500
ROWS = 18 + 256
"""Runs and buckets; no tag of its people is frequent."""


@pytest.fixture(scope="module")
def made_trail(database_of_module: clusters.Database) -> tuple[clusters.Database, MadeTrail]:
    """A database with an indexed trail of a stretch and two and a half runs."""

    async def make() -> MadeTrail:
        async with indexed_trail(database_of_module) as one:
            await one.append(people(LENGTH))
            await one.build()
            return await one.made()

    return database_of_module, clusters.blocking(make())


@pytest.fixture
async def stretch_trail(
    made_trail: tuple[clusters.Database, MadeTrail],
) -> AsyncIterator[IndexedTrail]:
    database, known = made_trail
    async with indexed_trail(database) as one:
        one.know(known)
        yield one
        await one.put_back(known)


async def verified(stretch_trail: IndexedTrail, **seqs: int) -> Result:
    return await verify_trail(
        stretch_trail.database.server_url,
        TrailRange(ORG_ID, ORG, **seqs),
        RING,
        processes=2,
        index_key=INDEX_KEY,
    )


async def rebuilt(stretch_trail: IndexedTrail, *, owner: bool = True) -> RebuiltIndex:
    database = stretch_trail.database
    owner_url = database.owner_url if owner else database.server_url
    return await rebuild(database.server_url, owner_url, ORG_ID, INDEX_KEY)


async def test_a_right_index(stretch_trail: IndexedTrail) -> None:
    result = await verified(stretch_trail)
    assert (result.verdict, result.checks.search_index) == ("verified", True)
    assert await rebuilt(stretch_trail) == RebuiltIndex(ROWS, 0, 0, 0)


async def test_a_range_and_a_verification_without_the_key_do_not_check_it(
    stretch_trail: IndexedTrail,
) -> None:
    result = await verified(stretch_trail, from_seq=10, to_seq=20)
    assert (result.verdict, result.checks.search_index) == ("verified", "not_checked")
    target = TrailRange(ORG_ID, ORG)
    result = await verify_trail(stretch_trail.database.server_url, target, RING, processes=2)
    assert (result.verdict, result.checks.search_index) == ("verified", "not_checked")


async def test_an_index_that_is_behind_is_no_fault(stretch_trail: IndexedTrail) -> None:
    await stretch_trail.tamper("DELETE FROM tag_runs WHERE level = 0 AND stretch > 14 OR level = 1")
    result = await verified(stretch_trail)
    assert (result.verdict, result.checks.search_index) == ("verified", True)
    await stretch_trail.tamper("DELETE FROM tag_runs")
    result = await verified(stretch_trail)
    assert (result.verdict, result.checks.search_index) == ("verified", "not_checked")
    assert "no row" in result.reasons["search_index"]
    assert await rebuilt(stretch_trail) == RebuiltIndex(0, ROWS, 0, 0)
    assert await rebuilt(stretch_trail) == RebuiltIndex(ROWS, 0, 0, 0)


DAMAGES = {
    "a run is removed": ("DELETE FROM tag_runs WHERE level = 0 AND stretch = 3", "index_missing", 1, 0),
    "a bucket is removed": ("DELETE FROM tag_runs WHERE level = 1 AND bucket = 7", "index_missing", 1, 0),
    "buckets are removed": ("DELETE FROM tag_runs WHERE level = 1 AND bucket > 6", "index_missing", 249, 0),
    "a run is changed": ("UPDATE tag_runs SET postings = '' WHERE level = 0 AND stretch = 3", "index_wrong", 1, 1),
    "a time is changed": (
        "UPDATE tag_runs SET ended_at = 'infinity' WHERE level = 0 AND stretch = 3",
        "index_wrong",
        1,
        1,
    ),
    "a row is planted beside": (
        "INSERT INTO tag_runs SELECT org_id, level, stretch, bucket, sha256(mac), ended_at, postings"
        " FROM tag_runs WHERE level = 1 AND bucket = 7",
        "index_wrong",
        0,
        1,
    ),
    "many rows are planted beside": (
        "INSERT INTO tag_runs SELECT org_id, level, stretch, bucket, sha256(n::text::bytea), ended_at,"
        " '' FROM tag_runs, generate_series(1, 3000) AS n WHERE level = 1 AND bucket = 7",
        "index_wrong",
        0,
        3_000,
    ),
    "rows are planted beyond": (
        "INSERT INTO tag_runs SELECT org_id, level, stretch + 10000, bucket, mac, ended_at, postings"
        " FROM tag_runs WHERE level = 0 OR bucket = 7",
        "index_wrong",
        0,
        19,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
async def test_what_is_done_to_rows_is_a_fault_of_the_index_and_repaired(
    stretch_trail: IndexedTrail, name: str
) -> None:
    before = await stretch_trail.rows()
    statement, kind, added, removed = DAMAGES[name]
    await stretch_trail.tamper(statement)
    result = await verified(stretch_trail)
    assert (result.verdict, result.checks.search_index) == ("refuted", False)
    assert kind in {fault.kind for fault in result.errors}
    assert {fault.kind for fault in result.errors} <= {"index_missing", "index_wrong"}
    assert {fault.seq for fault in result.errors} == {-1}
    assert (result.failed_entries, result.checks.hashes) == (0, True)
    repaired = await rebuilt(stretch_trail)
    assert (repaired.removed, repaired.kept) == (removed, 0)
    assert added <= repaired.added
    assert await stretch_trail.rows() == before
    assert (await verified(stretch_trail)).verdict == "verified"


async def test_wrong_rows_stay_where_the_owner_does_not_rebuild(
    stretch_trail: IndexedTrail,
) -> None:
    """Right rows stand beside them, so searches use the index again."""
    await stretch_trail.tamper(
        "UPDATE tag_runs SET mac = sha256(mac) WHERE level = 0 OR bucket < 9"
    )
    where = by(actor="a7")
    assert await stretch_trail.find(where) == stretch_trail.expected(where)
    assert (await rebuilt(stretch_trail, owner=False)).kept == 18 + 9
    stretch_trail.reported.clear()
    assert await stretch_trail.find(where) == stretch_trail.expected(where)
    assert stretch_trail.reported == []
    assert (await verified(stretch_trail)).checks.search_index is False
    assert (await rebuilt(stretch_trail)).removed == 18 + 9
    assert (await verified(stretch_trail)).checks.search_index is True


async def test_entries_that_can_not_be_read_make_no_fault_of_the_index(
    database: clusters.Database,
) -> None:
    async with indexed_trail(database) as stretch_trail:
        await stretch_trail.append(people(3_500))
        await stretch_trail.build()
        await blocks.remove(stretch_trail.superuser, ORG_ID, 1_500, 1_510)
        result = await verified(stretch_trail)
        assert {fault.kind for fault in result.errors} == {"missing"}
        assert result.checks.search_index is True
