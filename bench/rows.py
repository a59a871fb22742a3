"""A table with one row for each entry, by plain COPY and SQL: the baseline of the benchmarks.

Quire stored entries so before it stored blocks, with these columns, indexes and triggers. The
benchmarks make the table themselves, in the database that they measure, so that the ratios stay
comparable. This is also the only module of the benchmarks that names the table of blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import asyncpg
import uvloop

from bench.stage import Scratch, Stage
from ledger.chain import StoredEntry
from ledger.storage.database import Connection
from server.embedded import SERVER_ROLE

Sink = Callable[[bytes], Coroutine[Any, Any, None]]

TABLE: Final = "bench_rows"
_CREATE: Final = (
    f"""
CREATE TABLE {TABLE} (
    org_id      bigint NOT NULL,
    seq         bigint NOT NULL,
    anchored_at timestamptz NOT NULL,
    actor_tag   bigint NOT NULL,
    subject_tag bigint NOT NULL,
    entry_hash  bytea NOT NULL,
    signature   bytea NOT NULL,
    leaf        bytea NOT NULL,
    payload     bytea NOT NULL,
    PRIMARY KEY (org_id, seq, anchored_at)
) PARTITION BY RANGE (anchored_at)""",
    f"ALTER TABLE {TABLE} ALTER COLUMN payload SET STORAGE EXTERNAL",
    f"CREATE INDEX ON {TABLE} (org_id, (seq >> 14), actor_tag, seq) WHERE actor_tag <> 0",
    f"CREATE INDEX ON {TABLE} (org_id, (seq >> 14), subject_tag, seq) WHERE subject_tag <> 0",
    f"CREATE TRIGGER worm BEFORE UPDATE OR DELETE ON {TABLE} "
    "FOR EACH ROW EXECUTE FUNCTION quire_refuse_change()",
    # All times are in one partition: routing a row costs the same as to one of several months.
    f"CREATE TABLE {TABLE}_all PARTITION OF {TABLE} FOR VALUES FROM (MINVALUE) TO (MAXVALUE)",
    f"GRANT SELECT, INSERT ON {TABLE} TO {SERVER_ROLE}",
)
_COPY_OUT: Final = f"SELECT {', '.join(StoredEntry._fields)} FROM {TABLE} WHERE org_id = $1"
PAGE: Final = f"""
SELECT {", ".join(StoredEntry._fields)} FROM {TABLE}
WHERE org_id = $1 AND seq >> 14 = $2 AND actor_tag = $3 AND actor_tag <> 0 AND seq <= $4
ORDER BY seq DESC LIMIT $5"""
"""The newest entries of an actor in a stretch, by the index of tags."""
_LEAVES: Final = f"SELECT leaf FROM {TABLE} WHERE org_id = $1 ORDER BY seq"


def create(stage: Stage, scratch: Scratch) -> None:
    """Create the table in a database."""
    stage.execute(scratch.owner_url, *_CREATE)


async def copy_in(connection: Connection, rows: Sequence[StoredEntry]) -> None:
    """Write finished rows by COPY, as a program without Quire's encoder would."""
    await connection.copy_records_to_table(TABLE, records=rows, columns=StoredEntry._fields)


async def copy_out(connection: Connection, org_id: int, sink: Sink) -> None:
    """Read the rows of an org by binary COPY, in no order."""
    await connection.copy_from_query(_COPY_OUT, org_id, output=sink, format="binary")


async def copy_leaves(connection: Connection, org_id: int, sink: Sink) -> None:
    """Read the leaves of an org alone by binary COPY, in the order of their seqs."""
    await connection.copy_from_query(_LEAVES, org_id, output=sink, format="binary")


async def leaves(connection: Connection, org_id: int) -> list[bytes]:
    """Return the leaves of an org in the order of their seqs."""
    return [row[0] for row in await connection.fetch(_LEAVES, org_id)]


def vacuum(scratch: Scratch) -> None:
    """Update statistics and visibility map of all tables, as autovacuum would."""
    uvloop.run(_vacuum(scratch.owner_url))


async def _vacuum(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("VACUUM (ANALYZE) entries")
        if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", TABLE):
            await connection.execute(f"VACUUM (ANALYZE) {TABLE}")
    finally:
        await connection.close()
