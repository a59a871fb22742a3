"""Reading a whole trail: one snapshot for many connections, rows by binary COPY.

The exporting transaction stays open while the snapshot is in use, so that every
reader sees the trail of the same moment while appends continue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from ledger.chain import ChainHead
from ledger.entry import to_datetime
from ledger.storage.database import Connection, connect, explained
from ledger.storage.entries import copying, extent, months
from ledger.storage.entries.copying import Sink
from ledger.storage.entries.extent import NewestRow
from ledger.storage.entries.indexing import comparing
from ledger.storage.entries.indexing.comparing import Comparison
from ledger.storage.entries.picked import single
from ledger.storage.judged_rows import RowReader
from ledger.storage.tree_out import TreeReader

COPY_TIMEOUT_S: Final = 86_400.0

# Rows are read in the order of the primary key: sorting a segment would spill to disk.
FROM_THE_INDEX: Final = """
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL enable_sort = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL jit = off"""
# A time that Python's datetime can't hold is read as NULL.
HEAD: Final = """
SELECT seq, entry_hash,
       CASE WHEN anchored_at BETWEEN 'epoch' AND '9999-12-31T23:59:59.999999Z'
            THEN (extract(epoch FROM anchored_at) * 1000000)::bigint END
FROM heads WHERE org_id = $1"""
SEALS: Final = "SELECT privacy = 'sealed' FROM orgs WHERE id = $1"
LIVE_FROM: Final = """
SELECT coalesce(max(last_seq) + 1, 0), max(target) FROM departed WHERE org_id = $1"""


class HeadRow(NamedTuple):
    """The stored head row; the time is None if it is outside of the years 1970 to 9999."""

    seq: int
    entry_hash: bytes
    anchored_us: int | None


class Snapshot:
    """The trail at one moment, valid inside the block of :func:`open_snapshot`."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._trees = TreeReader(connection)
        self._lock = asyncio.Lock()  # readers of several segments may query at the same time
        self.name = name

    @asynccontextmanager
    async def trees(self) -> AsyncIterator[TreeReader]:
        """Give the signed trees of that moment to one reader at a time."""
        async with self._lock:
            yield self._trees

    async def head(self, org_id: int) -> HeadRow | None:
        """Return the org's head row, or None."""
        async with explained():
            row = await self._connection.fetchrow(HEAD, org_id)
        return None if row is None else HeadRow(*row)

    async def newest(self, org_id: int) -> NewestRow | None:
        """Return the row with the highest seq, or None."""
        async with explained():
            return await extent.newest(self._connection, org_id)

    async def live_from(self, org_id: int) -> tuple[int, str | None]:
        """Return the first seq of the org in the database, and the target with earlier entries."""
        async with explained():
            rows = await self._connection.fetch(LIVE_FROM, org_id)
        return rows[0][0], rows[0][1]

    async def seals(self, org_id: int) -> bool:
        """Return whether the org's row says that its entries are sealed."""
        async with explained():
            return bool(await self._connection.fetchval(SEALS, org_id))

    async def written_us(self, org_id: int, seq: int) -> int | None:
        """Return the time at which an entry was written; None if it is not in the database."""
        async with explained():
            return await extent.written_us(self._connection, org_id, seq)

    async def hash_at(self, org_id: int, head: ChainHead) -> bytes | None:
        """Return the stored hash at a head's seq: of its time, else of any; None without an entry.

        Raises DamagedTrail.
        """
        at, read = to_datetime(head.anchored_us), self._connection
        async with explained():
            found = await single.stored_hash(read, org_id, head.seq, at)
            if found is None and await single.count_at(read, org_id, head.seq):
                return b""
            return found

    async def planted(self, org_id: int, live_from: int, limit: int) -> list[int]:
        """Return the seqs of rows below ``live_from``, where all entries were dropped."""
        async with explained():
            return await extent.seqs_below(self._connection, org_id, live_from, limit)

    async def next_seq(self, org_id: int, after: int) -> int | None:
        """Return the lowest seq of a row above ``after``, or None."""
        async with self._lock, explained():
            return await extent.next_seq(self._connection, org_id, after)


class SegmentReader:
    """A connection that reads under the snapshot of another connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.trees = TreeReader(connection)
        self.rows = RowReader(connection)

    async def copy(self, org_id: int, lower: int, upper: int, sink: Sink) -> None:
        """Stream the rows ``lower`` to ``upper`` by seq into the sink, as binary COPY."""
        async with explained():
            await copying.segment(
                self._connection, org_id, lower, upper, sink, timeout=COPY_TIMEOUT_S
            )

    async def compare_index(
        self, org_id: int, key: bytes, *, live_from: int, entries: int
    ) -> AsyncIterator[Comparison]:
        """Compare the search index of a trail of so many entries with them, stretch by stretch.

        Entries below ``live_from`` were dropped.
        """
        async with explained():
            async for one in comparing.comparisons(
                self._connection, org_id, key, live_from=live_from, entries=entries
            ):
                yield one


@asynccontextmanager
async def open_snapshot(url: str) -> AsyncIterator[Snapshot]:
    """Open and export a snapshot. Raises DatabaseUnavailable."""
    async with _reading(url) as connection:
        async with explained():
            await connection.execute(FROM_THE_INDEX)
            name = await connection.fetchval("SELECT pg_export_snapshot()")
        yield Snapshot(connection, name)


@asynccontextmanager
async def reader_of(url: str, snapshot: str) -> AsyncIterator[SegmentReader]:
    """Open another connection on an exported snapshot. Raises DatabaseUnavailable."""
    if not snapshot.replace("-", "").isalnum():
        raise ValueError("a snapshot's name must have hexadecimal digits and dashes only")
    async with _reading(url) as connection:
        async with explained():
            await connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            await connection.execute(FROM_THE_INDEX)
        yield SegmentReader(connection)


@asynccontextmanager
async def _reading(url: str) -> AsyncIterator[Connection]:
    connection = await connect(url, name="quire verification")
    try:
        async with explained():
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # Acquired before the snapshot: no month is dropped while the trail is read, so the
            # snapshot finds all entries of the months that were not dropped before.
            await months.hold(connection)
        yield connection
        async with explained():
            await connection.execute("COMMIT")
            await connection.close(timeout=5)
    finally:
        connection.terminate()
