"""The connection of the search index's builder: its lock, what it reads, the rows it adds.

The lock is a session lock of this connection, on which all rows are added: a builder that loses
its connection loses both. Two builders would do no harm: they add the same rows.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg

from ledger.blocks.postings import RUN_BITS, RUN_LEVEL, IndexRow
from ledger.entry import MAX_SEQ
from ledger.storage.database import (
    INDEXER_ROLE,
    Connection,
    Database,
    connect,
    connect_as_owner,
    explained,
)
from ledger.storage.dropped_months import LIVE_FROM
from ledger.storage.entries.blocks import EARLIEST
from ledger.storage.entries.indexing import index_rows, run_tags
from ledger.storage.entries.indexing.comparing import StoredKey
from ledger.storage.entries.indexing.index_rows import AuthenticRow
from ledger.storage.entries.indexing.run_tags import RunTags
from ledger.storage.lock_waits import holders, log_lock_waits

APPLICATION: Final = "quire indexer"
INDEXER_LOCK: Final = 7_305_804_407
HEADS_AT_ONCE: Final = 10_000
# Trails with at least one whole run. A head beyond the largest seq was edited.
HEADS: Final = f"""
SELECT org_id, (least(seq, {MAX_SEQ}) + 1) >> {RUN_BITS} FROM heads
WHERE org_id > $1 AND seq >= {(1 << RUN_BITS) - 1} ORDER BY org_id LIMIT {HEADS_AT_ONCE}"""

# Orgs without a whole run cost nothing. A row beyond the trail was planted.
UNINDEXED: Final = f"""
SELECT coalesce(sum((w.runs - coalesce(r.runs, 0)) << {RUN_BITS}), 0)::bigint
FROM (SELECT org_id, (least(seq, {MAX_SEQ}) + 1) >> {RUN_BITS} AS runs
      FROM heads WHERE seq >= {(1 << RUN_BITS) - 1}) AS w
LEFT JOIN LATERAL (
    SELECT stretch + 1 AS runs FROM tag_runs
    WHERE org_id = w.org_id AND level = {RUN_LEVEL} AND stretch < w.runs
    ORDER BY stretch DESC LIMIT 1
) AS r ON true"""

REMOVE: Final = """
DELETE FROM tag_runs t
USING unnest($2::smallint[], $3::bigint[], $4::integer[], $5::bytea[]) AS k (level, stretch, bucket, mac)
WHERE t.org_id = $1 AND t.level = k.level AND t.stretch = k.stretch AND t.bucket = k.bucket
  AND substring(t.mac FROM 1 FOR 33) = k.mac"""


class WholeRuns(NamedTuple):
    """How many whole runs an org's trail has, by its head row."""

    org_id: int
    runs: int


class IndexerConnection:
    """One session of the database. Its methods raise DatabaseUnavailable; then open a new one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[IndexerConnection]:
        """Connect as the role of the builder. Raises StorageError if the login may not."""
        connection = await connect(url, name=APPLICATION, role=INDEXER_ROLE)
        try:
            async with explained():
                await connection.execute(
                    "SET enable_sort = off; SET enable_bitmapscan = off; SET jit = off;"
                    "SET max_parallel_workers_per_gather = 0; SET lock_timeout = '10s';"
                    # If the machine of the builder fails, its lock must not last for hours.
                    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5;"
                    "SET tcp_keepalives_count = 3"
                )
            yield cls(connection)
        finally:
            connection.terminate()

    async def lead(self) -> bool:
        """Acquire or keep the lock; False while another builder has it."""
        async with explained():
            return bool(
                await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", INDEXER_LOCK)
            )

    async def leader(self) -> str:
        """Describe the session that holds the lock."""
        return await holders(self._connection, INDEXER_LOCK)

    async def heads(self) -> AsyncIterator[list[WholeRuns]]:
        """Yield all orgs with whole runs, in pages."""
        after = -MAX_SEQ
        while True:
            async with explained():
                rows = await self._connection.fetch(HEADS, after)
            if not rows:
                return
            yield [WholeRuns(*row) for row in rows]
            after = rows[-1][0]

    async def live_from(self, org_id: int) -> int:
        """Return the first seq of an org whose entry was not dropped."""
        async with explained():
            return int(await self._connection.fetchval(LIVE_FROM, org_id))

    async def newest(self, org_id: int, level: int, below: int, key: bytes) -> AuthenticRow | None:
        """Return an authentic row of the newest run or stretch below a number, or None."""
        async with explained():
            return await index_rows.newest(self._connection, org_id, level, below, key)

    async def tags(
        self, org_id: int, runs: range, live_from: int, since: datetime = EARLIEST
    ) -> list[RunTags | None]:
        """Return the tags of the first of these runs, as :func:`run_tags.read`."""
        async with explained():
            return await run_tags.read(
                self._connection, org_id, runs, live_from=live_from, since=since
            )

    async def next_run(self, org_id: int, run: int) -> int | None:
        """Return the first run from this one on that has a stored entry, or None."""
        async with explained():
            return await run_tags.next_run(self._connection, org_id, run)

    async def add(self, rows: Sequence[IndexRow], ended_at: datetime) -> None:
        """Add the rows of a run or stretch, all or none. A crash leaves all or none, too."""
        async with explained():
            await index_rows.add(self._connection, rows, ended_at)


async def remove_rows(owner_url: str, org_id: int, rows: Sequence[StoredKey]) -> int:
    """Remove wrong rows, as the owner of the database; return their number.

    0 if the login is not the owner: nobody else may. The trigger that refuses it is off inside
    the transaction alone. Raises DatabaseUnavailable.
    """
    name = f"quire search {os.getpid()}"
    connection = await connect_as_owner(owner_url, name=name)
    try:
        async with explained(), log_lock_waits(owner_url, name):
            try:
                async with connection.transaction():
                    await connection.execute("ALTER TABLE tag_runs DISABLE TRIGGER worm")
                    tag = await connection.execute(
                        REMOVE, org_id, *map(list, zip(*rows, strict=True))
                    )
                    await connection.execute("ALTER TABLE tag_runs ENABLE TRIGGER worm")
            except asyncpg.InsufficientPrivilegeError:
                return 0
            return int(tag.removeprefix("DELETE "))
    finally:
        await connection.close(timeout=5)


async def unindexed(database: Database) -> int:
    """Return the number of entries in whole runs that the index does not have yet, of all orgs."""
    row = await database.fetchrow(UNINDEXED)
    return 0 if row is None else row[0]
