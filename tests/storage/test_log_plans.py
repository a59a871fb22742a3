"""Queries on signed trees find rows by key, however many were signed before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import asyncpg
import pytest

from ledger.chain import StoredEntry
from ledger.storage import bundle_reads, entry_bundles, history, trees
from ledger.storage.entries import blocks, spans
from ledger.storage.entries.indexing import index_rows, run_tags
from ledger.storage.entries.picked import chosen, parts, single
from ledger.storage.entries.search import IN_ORDER
from ledger.storage.entries.searching import block_rows
from tests.support.blocks import create_partitions, write
from tests.support.clusters import Cluster, Database, blocking

ORG = 7
CHECKPOINTS = 5_000
MOST_ROWS = 600
"""An entry bundle has 256 rows, the tiles of a proof a few hundred parts."""
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)
QUERIES: dict[str, tuple[str, list[object]]] = {
    "tile": (entry_bundles.TILE, [ORG, 0, 3, 256]),
    "leaves": (spans.SIGNED_LEAVES, [ORG, 1_024, 1_279]),
    "anchor leaves": (entry_bundles.ANCHOR_LEAVES, [0, 1_000, 1_256]),
    "tiles of a proof": (trees.TILE_PARTS, [ORG, [0, 0, 1], [3, 19, 0]]),
    "newest checkpoint": (trees.NEWEST_CHECKPOINT, [ORG]),
    "checkpoint of a size": (trees.CHECKPOINT_AT, [ORG, 77]),
    "first checkpoint above": (trees.FIRST_CHECKPOINT_ABOVE, [ORG, 77]),
    "anchor leaf": (trees.ANCHOR_LEAF, [ORG, 77]),
    "listed": (history.LISTED, [ORG, 4_000, 100]),
    "newest anchored": (history.NEWEST_ANCHORED, [ORG]),
    "entry": (single.ROW_AND_CHECKPOINT, [ORG, 77, NOW]),
    "entry by its place": (single.AT, [ORG, 77, NOW]),
    "entry by its seq": (single.STANDING_AT, [ORG, 77]),
    "entry before": (single.BEFORE, [ORG, 77, NOW]),
    "first anchored above": (bundle_reads.FIRST_ANCHORED_ABOVE, [ORG, 77]),
    "attested anchor": (bundle_reads.ATTESTED_ANCHOR, [77]),
    "entries present": (chosen.PRESENT, [ORG, [77, 78], [NOW, NOW]]),
    "times of entries": (chosen.TIMES, [ORG, [77, 4_000]]),
    "blocks of a bundle": (blocks.HOLDING, [ORG, [0, 256], [255, 499], NOW, NOW]),
    "blocks of some seqs": (blocks.HOLDING, [ORG, [7, 900], [7, 900], NOW, NOW]),
    "blocks of a span": (blocks.PAGE, [ORG, 0, 4_999, NOW, NOW, 16, NOW]),
    "parts of blocks": (parts.PARTS, [[ORG], [77], [NOW], [1], [9], [1], [9]]),
    "keys of blocks": (block_rows.KEYS, [ORG, [7, 900], [7, 909], NOW, LATER, NOW]),
    "slices of entries": (block_rows.SLICED, [ORG, [7, 900], NOW, LATER, NOW]),
    "tags of a run": (run_tags.TAGS, [ORG, 1_024, 1_343, NOW, NOW]),
    "index rows": (index_rows.AT, [ORG, 1, 14, [3, 4], [7, 7]]),
    "newest index row": (index_rows.NEWEST, [ORG, 1, 14, 77]),
    "reach of the index": (index_rows.REACH, [ORG, 77, 77]),
    "sizes": (history.SIZES, [[ORG, 8]]),
}


@pytest.fixture(scope="module", params=["fresh", "analyzed"])
def signed_database(
    postgres_cluster: Cluster, request: pytest.FixtureRequest
) -> Iterator[Database]:
    """A database with an org signed after each of 5,000 entries, with or without statistics."""
    database = postgres_cluster.migrated()
    blocking(_fill(database))
    if request.param == "analyzed":
        blocking(_analyze(database))
    yield database
    postgres_cluster.drop(database)


async def _fill(database: Database) -> None:
    connection = await asyncpg.connect(database.superuser_url)
    try:
        entries = [
            StoredEntry(ORG, seq, NOW, 0, 0, b"", b"", b"x", b"") for seq in range(CHECKPOINTS)
        ]
        await create_partitions(connection, entries)
        await write(connection, entries)
        for statement in (
            """INSERT INTO checkpoints (org_id, size, root, note)
               SELECT $1, n + 1, sha256('x'), 'note'
               FROM generate_series(0, $2::bigint - 1) AS n WHERE $3 IS NOT NULL""",
            """INSERT INTO anchor_leaves (idx, org_id, size, nonce, leaf)
               SELECT n, $1, n + 1, sha256('x'), sha256('x')
               FROM generate_series(0, $2::bigint - 1) AS n WHERE $3 IS NOT NULL""",
            """INSERT INTO tile_parts (org_id, level, tile, start, hashes)
               SELECT $1, 0, n >> 8, n & 255, sha256('x')
               FROM generate_series(0, $2::bigint - 1) AS n WHERE $3 IS NOT NULL""",
            """INSERT INTO tag_runs (org_id, level, stretch, bucket, mac, ended_at, postings)
               SELECT $1, 1, n >> 4, n & 15, sha256('x'), $3, ''
               FROM generate_series(0, $2::bigint - 1) AS n""",
            """INSERT INTO trees (org_id, size, root)
               SELECT org, $2, '' FROM unnest(ARRAY[$1, 0::bigint]) AS org
               WHERE $3 IS NOT NULL""",
        ):
            typed = statement.replace("$1", "$1::bigint").replace("$3", "$3::timestamptz")
            await connection.execute(typed, ORG, CHECKPOINTS, NOW)
    finally:
        await connection.close()


async def _plan(database: Database, query: str, arguments: list[object], mode: str) -> str:
    connection = await asyncpg.connect(database.superuser_url)
    try:
        await connection.execute(f"SET plan_cache_mode = {mode}")
        if query is history.LISTED:
            await connection.execute(IN_ORDER.replace("LOCAL ", ""))
        await connection.execute(f"PREPARE asked AS {query}")
        literals = ", ".join(map(_literal, arguments))
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE asked ({literals})"
        )
    finally:
        await connection.close()
    return "\n".join(row[0] for row in rows)


def _literal(value: object) -> str:
    if isinstance(value, list):
        return f"'{{{','.join(map(str, value))}}}'"
    return f"'{value}'"


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("name", QUERIES)
def test_served_rows_are_found_by_key(signed_database: Database, name: str, mode: str) -> None:
    query, arguments = QUERIES[name]
    plan = blocking(_plan(signed_database, query, arguments, mode))
    read = max(int(rows) for rows in re.findall(r"rows=(\d+)", plan))
    assert read <= MOST_ROWS, plan
    dropped = sum(int(rows) for rows in re.findall(r"Rows Removed by Filter: (\d+)", plan))
    assert dropped <= MOST_ROWS, plan


async def _analyze(database: Database) -> None:
    connection = await asyncpg.connect(database.superuser_url)
    await connection.execute("ANALYZE")
    await connection.close()
