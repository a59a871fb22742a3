"""Entries that a caller names by their seqs or places."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Final

from ledger.blocks.block import Block
from ledger.blocks.picking import EntriesUnreadable, Part, Picked
from ledger.chain import StoredEntry
from ledger.entry import RecordId, to_datetime
from ledger.storage.database import Database
from ledger.storage.entries.blocks import holding, seqs_in, unreadable
from ledger.storage.entries.columns import PAGE_BYTES
from ledger.storage.entries.picked import parts

# LATERAL with LIMIT pins the plan: one primary key range of at most 256 seqs for each place.
PRESENT: Final = """
SELECT w.seq FROM unnest($2::bigint[], $3::timestamptz[]) AS w (seq, anchored_at)
CROSS JOIN LATERAL (
    SELECT FROM entries e
    WHERE e.org_id = $1 AND e.last_seq >= w.seq AND e.last_seq <= (w.seq | 255)
      AND e.first_seq <= w.seq AND e.anchored_at = w.anchored_at LIMIT 1
) AS present"""
# Blocks of a time that Python can't hold are not found.
TIMES: Final = """
SELECT w.seq, e.anchored_at FROM (SELECT DISTINCT unnest($2::bigint[]) AS seq) AS w
CROSS JOIN LATERAL (
    SELECT anchored_at FROM entries
    WHERE org_id = $1 AND last_seq >= w.seq AND last_seq <= (w.seq | 255) AND first_seq <= w.seq
      AND anchored_at BETWEEN 'epoch' AND '4253-01-01Z'
    ORDER BY last_seq, anchored_at LIMIT 1
) AS e"""


async def present(database: Database, org_id: int, places: Sequence[RecordId]) -> set[int]:
    """Return the seqs of the given places at which an entry is stored."""
    times = [to_datetime(place.anchored_us) for place in places]
    rows = await database.fetch(PRESENT, org_id, [place.seq for place in places], times)
    return {row[0] for row in rows}


async def times(database: Database, org_id: int, seqs: Sequence[int]) -> dict[int, datetime]:
    """Return the anchoring times of the entries with these few seqs; missing ones are left out."""
    return {row[0]: row[1] for row in await database.fetch(TIMES, org_id, list(seqs))}


async def page(
    database: Database, org_id: int, seqs: Sequence[int], since: datetime, until: datetime
) -> list[StoredEntry]:
    """Return the first of these entries by ascending seq; fewer of them if they are large.

    All must have been anchored between ``since`` and ``until``, both included. Raises
    DamagedTrail if one can't be read.
    """
    found = await holding(database, org_id, seqs, since=since, until=until)
    try:
        return await _read(database, list(_first(found, sorted(set(seqs)))))
    except EntriesUnreadable as error:
        raise unreadable(error.what) from None


def _first(blocks: Sequence[Block], seqs: Sequence[int]) -> Iterator[Picked]:
    """Yield the wanted entries of each block, up to those that exceed PAGE_BYTES."""
    budget = PAGE_BYTES
    for block in blocks:
        mine = seqs_in(block, seqs)
        if budget <= 0:
            return
        if not mine:
            continue
        picked = Picked(block, mine)
        count = _fitting(picked.sizes, budget)
        picked = picked if count == len(mine) else Picked(block, mine[:count])
        budget -= max(picked.raw_record_bytes, picked.leaves.size)
        budget -= max(picked.raw_payload_bytes, picked.payloads.size)
        yield picked
        if count < len(mine):
            return


def _fitting(sizes: Sequence[int], budget: int) -> int:
    """Return how many of these sizes it takes to fill the budget, at most all."""
    before = accumulate(sizes, initial=0)
    return sum(1 for size, _ in zip(before, sizes, strict=False) if size < budget)


async def _read(database: Database, wanted: Sequence[Picked]) -> list[StoredEntry]:
    if not wanted:
        return []
    read = await parts.fetch(database, [(one.block, one.leaves, one.payloads) for one in wanted])
    return await asyncio.to_thread(_entries, wanted, read)


def _entries(wanted: Sequence[Picked], read: list[tuple[Part, Part] | None]) -> list[StoredEntry]:
    """Return the entries of all blocks; the parts are freed one by one."""
    entries: list[StoredEntry] = []
    read.reverse()
    for one in wanted:
        found = read.pop()
        if found is not None:
            entries += one.entries(*found)
    return entries
