"""Entries of imported QWED rows, found in the leaves of a range of seqs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from ledger.chain import StoredEntry
from ledger.storage.database import Connection, Database
from ledger.storage.entries.blocks import unreadable
from ledger.storage.entries.search import IN_ORDER
from ledger.storage.entries.searching import matching
from ledger.storage.entries.searching.block_rows import BlockRange
from ledger.storage.entries.searching.matching import LeafFilter, Match
from ledger.storage.entries.searching.stored_frames import completed
from ledger.storage.entries.searching.walking import off_loop

STRETCH_BITS: Final = 10
LOOP_RECORDS: Final = 1_024
"""Records that are looked through on the event loop; more are on another thread."""
# A leaf is canonical JSON, where these bytes can't occur inside a string. At most two
# numbers and the closing quote follow them.
_ABOUT_ROWS: Final = (b'"event_type":"qwed.', b'"action":"qwed:')
_ROW_ID: Final = re.compile(rb'"action":"qwed:[0-9]{1,18}:([0-9]{1,18})"')


async def row_ids(
    database: Database, org_id: int, first: int, last: int
) -> list[tuple[int, int, int]]:
    """Return (number, lowest, highest row id) of each stretch of seqs with entries of QWED rows.

    Raises DamagedTrail.
    """
    stretches: dict[int, tuple[int, int]] = {}
    async with database.transaction() as connection:
        async for records in _about_rows(connection, org_id, first, last, _ABOUT_ROWS):
            await off_loop(len(records) > LOOP_RECORDS, _widen, stretches, records)
    return [(number, *ids) for number, ids in sorted(stretches.items())]


async def naming(
    database: Database, org_id: int, first: int, last: int, named: bytes
) -> list[StoredEntry]:
    """Return the entries of QWED rows whose leaves contain ``named``, oldest first.

    Raises DamagedTrail.
    """
    entries: list[StoredEntry] = []
    async with database.transaction() as connection:
        async for records in _about_rows(connection, org_id, first, last, (*_ABOUT_ROWS, named)):
            found, damaged = await completed(connection, org_id, records)
            if damaged is not None:
                raise unreadable(damaged)
            entries += found
    return entries


async def _about_rows(
    connection: Connection, org_id: int, first: int, last: int, patterns: Sequence[bytes]
) -> AsyncIterator[list[Match]]:
    """Yield all records of a range whose leaves contain these bytes. Raises DamagedTrail."""
    await connection.execute(IN_ORDER)
    at = first
    while at <= last:
        span = BlockRange(org_id, at, last, descending=False)
        async for batch in matching.batches(connection, span, LeafFilter(0, 0, patterns), last):
            if batch.unreadable:
                raise unreadable(batch.unreadable[0])
            yield batch.records
            at = batch.searched + 1


def _widen(stretches: dict[int, tuple[int, int]], records: Iterable[Match]) -> None:
    for record in records:
        named = _ROW_ID.search(record.leaf)
        if named is not None:
            number, row_id = record.seq >> STRETCH_BITS, int(named[1])
            lowest, highest = stretches.get(number, (row_id, row_id))
            stretches[number] = min(lowest, row_id), max(highest, row_id)
