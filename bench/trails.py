"""Trails of finished rows, written into the table by COPY alone."""

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
from ledger.storage.database import Database, connect

BATCH_ROWS: Final = 1_000
DISTINCT_EVENTS: Final = 20_000
_CHUNK_ROWS: Final = 10_000


class RawTrail:
    """A trail whose rows are those that the server would make, written by COPY alone."""

    def __init__(self, scratch: Scratch, org: Tenant) -> None:
        self._url = scratch.server_url
        self._org = org
        self._head: ChainHead = EMPTY_HEAD
        self._drafts = [events.draft(number) for number in range(DISTINCT_EVENTS)]
        uvloop.run(_prepare(scratch))

    def write(self, count: int) -> float:
        """Return the seconds to write ``count`` new rows, 1,000 per COPY, without making them."""
        batches = [self.rows(BATCH_ROWS) for _ in range(count // BATCH_ROWS)]
        # The garbage collector must not scan the waiting rows during the measurement.
        gc.freeze()
        try:
            return uvloop.run(_copy(self._url, batches))
        finally:
            gc.unfreeze()

    def build(self, count: int) -> None:
        """Write a whole trail with its head row, for benchmarks that read it."""
        uvloop.run(self._build(count))

    def rows(self, count: int) -> list[StoredEntry]:
        """Make and return the next rows of the trail."""
        first = self._head.seq + 1
        drafts: list[Draft] = [
            self._drafts[number % DISTINCT_EVENTS] for number in range(first, first + count)
        ]
        now = system_clock_us()
        org = self._org
        entries, self._head = extend(org.org_id, org.slug, self._head, drafts, now, KEYRING.active)
        return entries

    async def _build(self, count: int) -> None:
        connection = await connect(self._url)
        try:
            for start in range(0, count, _CHUNK_ROWS):
                await rows.copy_in(connection, self.rows(min(_CHUNK_ROWS, count - start)))
            await connection.execute(
                "UPDATE heads SET seq = $2, entry_hash = $3, anchored_at = $4 WHERE org_id = $1",
                self._org.org_id,
                self._head.seq,
                self._head.entry_hash,
                to_datetime(self._head.anchored_us),
            )
        finally:
            await connection.close()


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
