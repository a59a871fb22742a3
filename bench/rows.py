"""The table of entries by plain COPY and SQL: what benchmarks compare Quire's own ways with.

The only module of the benchmarks that names the table.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import asyncpg
import uvloop

from bench.stage import Scratch, Stage
from ledger.chain import StoredEntry
from ledger.storage.database import Connection

Sink = Callable[[bytes], Coroutine[Any, Any, None]]

_COPY_OUT: Final = f"SELECT {', '.join(StoredEntry._fields)} FROM entries WHERE org_id = $1"
_LEAVES: Final = "SELECT leaf FROM entries WHERE org_id = $1 ORDER BY seq"
SEARCH_INDEXES: Final = {
    "entries_actor": "(org_id, (seq >> 14), actor_tag, seq) WHERE actor_tag <> 0",
    "entries_subject": "(org_id, (seq >> 14), subject_tag, seq) WHERE subject_tag <> 0",
}


async def copy_in(connection: Connection, rows: Sequence[StoredEntry]) -> None:
    """Write finished rows by COPY, as a program without Quire's encoder would."""
    await connection.copy_records_to_table("entries", records=rows, columns=StoredEntry._fields)


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
    """Update statistics and visibility map, as autovacuum would."""
    uvloop.run(_vacuum(scratch.owner_url))


async def _vacuum(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("VACUUM (ANALYZE) entries")
    finally:
        await connection.close()


def drop_search_indexes(stage: Stage, scratch: Scratch) -> None:
    """Drop the two indexes of search."""
    stage.execute(scratch.owner_url, *(f"DROP INDEX {name}" for name in SEARCH_INDEXES))


def create_search_indexes(stage: Stage, scratch: Scratch) -> None:
    """Create the two indexes of search over the rows that are there."""
    stage.execute(
        scratch.owner_url,
        *(f"CREATE INDEX {name} ON entries {columns}" for name, columns in SEARCH_INDEXES.items()),
    )
