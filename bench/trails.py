"""Trails of finished entries, written without a server: as raw rows, and as blocks."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from typing import Final

import uvloop

from bench import events, rows
from bench.stage import KEYRING, Scratch
from bench.tenants import Tenant
from ledger.chain import EMPTY_HEAD, ChainHead, Draft, StoredEntry, extend
from ledger.core.sequencer.sequencer import system_clock_us
from ledger.entry import to_datetime
from ledger.storage import partitions
from ledger.storage.database import Connection, Database, connect
from ledger.storage.entries import writing

BATCH_ROWS: Final = 1_000
DISTINCT_EVENTS: Final = 20_000
_CHUNK_BATCHES: Final = 10


class FinishedTrail:
    """A trail whose entries are those that the server would make; ``drafts`` follow in turns."""

    def __init__(
        self, scratch: Scratch, org: Tenant, drafts: Sequence[Draft] | None = None
    ) -> None:
        self._url = scratch.server_url
        self._org = org
        self._head: ChainHead = EMPTY_HEAD
        made = drafts or [events.draft(number) for number in range(DISTINCT_EVENTS)]
        self._drafts: Sequence[Draft] = made
        uvloop.run(_prepare(scratch))

    def write(self, count: int) -> float:
        """Return the seconds to write ``count`` new raw rows, 1,000 per COPY, without making them."""
        batches = [self.rows(BATCH_ROWS) for _ in range(count // BATCH_ROWS)]
        # The garbage collector must not scan the waiting rows during the measurement.
        gc.freeze()
        try:
            return uvloop.run(_copy(self._url, batches))
        finally:
            gc.unfreeze()

    def build(self, count: int, *, raw: bool = False) -> None:
        """Write a whole trail of blocks with its head row, for benchmarks that read it.

        ``raw`` writes the raw rows of the same entries too.
        """
        uvloop.run(self._build(count, raw=raw))

    def rows(self, count: int) -> list[StoredEntry]:
        """Make and return the next entries of the trail, as one batch."""
        first = self._head.seq + 1
        drafts: list[Draft] = [
            self._drafts[number % DISTINCT_EVENTS] for number in range(first, first + count)
        ]
        now = system_clock_us()
        org = self._org
        entries, self._head = extend(org.org_id, org.slug, self._head, drafts, now, KEYRING.active)
        return entries

    async def _build(self, count: int, *, raw: bool) -> None:
        connection = await connect(self._url)
        try:
            for start in range(0, count, _CHUNK_BATCHES * BATCH_ROWS):
                made = self._chunk(min(_CHUNK_BATCHES * BATCH_ROWS, count - start))
                await writing.add(connection, made)
                if raw:
                    await rows.copy_in(connection, made)
            await set_head(connection, self._org, self._head)
        finally:
            await connection.close()

    def _chunk(self, count: int) -> list[StoredEntry]:
        """Make the next entries in batches, each with a time of its own."""
        return [
            entry
            for start in range(0, count, BATCH_ROWS)
            for entry in self.rows(min(BATCH_ROWS, count - start))
        ]


async def set_head(connection: Connection, org: Tenant, head: ChainHead) -> None:
    """Set the head row of a trail."""
    await connection.execute(
        "UPDATE heads SET seq = $2, entry_hash = $3, anchored_at = $4 WHERE org_id = $1",
        org.org_id,
        head.seq,
        head.entry_hash,
        to_datetime(head.anchored_us),
    )


async def _prepare(scratch: Scratch) -> None:
    database = await Database.open(scratch.server_url, size=1)
    try:
        await partitions.prepare(database, to_datetime(system_clock_us()))
    finally:
        await database.close()


async def _copy(url: str, batches: Sequence[Sequence[StoredEntry]]) -> float:
    connection = await connect(url)
    try:
        started = time.perf_counter()
        for batch in batches:
            await rows.copy_in(connection, batch)
        return time.perf_counter() - started
    finally:
        await connection.close()
