"""Entries of a whole span of seqs: their leaves, their sizes, or all of them.

A seq that is missing or stored twice shows in the answer: the caller counts. The functions raise
DamagedTrail for entries that can't be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from ledger.blocks.block import Block
from ledger.blocks.layout import BlockDamaged
from ledger.blocks.picking import EntriesUnreadable, Part, Picked
from ledger.blocks.reading import UnreadableEntries
from ledger.chain import StoredEntry
from ledger.entry import HASH_BYTES
from ledger.storage.database import Database
from ledger.storage.entries import blocks
from ledger.storage.entries.blocks import (
    LOOP_BYTES,
    entries_of,
    key_columns,
    raw_size,
    unreadable,
)

MAX_LEAVES_BYTES: Final = 32 << 20
"""Stored bytes of the leaves of 256 entries at most; leaves beyond them are missing."""
SPAN_BYTES: Final = 96 << 20
"""Bytes of leaves and payloads that one span may have: more than the longest entry, or a pack."""
TOO_LARGE: Final = f"together they have more than {SPAN_BYTES} bytes"
_OVERLAPPING: Final = """
FROM entries
WHERE org_id = $1 AND last_seq >= $2 AND last_seq <= ($3::bigint | 255) AND first_seq <= $3
  AND anchored_at BETWEEN 'epoch' AND '4253-01-01Z'"""
# A trail is usually longer than its signed tree: only leaves inside the tree are returned.
SIGNED_LEAVES: Final = f"""
SELECT {key_columns()}, coalesce(leaves, ''), ''::bytea FROM (
    SELECT *, sum(octet_length(coalesce(leaves, ''))::bigint) OVER (ORDER BY last_seq, anchored_at) AS upto
    FROM (
        SELECT * {_OVERLAPPING} AND $3 < (SELECT size FROM trees WHERE org_id = $1)
        ORDER BY last_seq, anchored_at LIMIT 257
    ) AS first
) AS entries WHERE upto <= {MAX_LEAVES_BYTES} ORDER BY last_seq, anchored_at"""
SIZES: Final = f"""
SELECT {key_columns()}, ''::bytea, ''::bytea {_OVERLAPPING} ORDER BY last_seq, anchored_at LIMIT $4"""


async def signed_leaves(
    database: Database, org_id: int, first: int, upper: int
) -> list[tuple[int, bytes]]:
    """Return (seq, leaf) of the entries from ``first`` to ``upper - 1``.

    None of them if the signed tree of the org is smaller than ``upper``.
    """
    rows = await database.fetch(SIGNED_LEAVES, org_id, first, upper - 1)
    found = [Block(*row) for row in rows]
    if sum(map(raw_size, found)) <= LOOP_BYTES:
        return _all_leaves(found, first, upper)
    return await asyncio.to_thread(_all_leaves, found, first, upper)


def _all_leaves(found: Sequence[Block], first: int, upper: int) -> list[tuple[int, bytes]]:
    """Return the leaves of these seqs; where some are stored twice, at least one more."""
    leaves: list[tuple[int, bytes]] = []
    for block in found:
        leaves += _leaves(block, first, upper)
        if len(leaves) > upper - first:
            break
    return leaves


def _leaves(block: Block, first: int, upper: int) -> list[tuple[int, bytes]]:
    seqs = range(max(first, block.first_seq), min(upper, block.last_seq + 1))
    try:
        records = Picked(block, seqs).records(Part(0, block.leaves))
    except EntriesUnreadable as error:
        raise unreadable(error.what) from None
    return [(record.seq, record.leaf) for record in records]


async def sizes(
    database: Database, org_id: int, first: int, last: int
) -> list[tuple[int, int, bool]]:
    """Return for each entry: seq, bytes of leaf and payload, and whether both keep their limits."""
    rows = await database.fetch(SIZES, org_id, first, last, last - first + 2)
    return [
        (seq, size, True)
        for block in (Block(*row) for row in rows)
        for seq, size in _sizes(block)
        if first <= seq <= last
    ]


def _sizes(block: Block) -> list[tuple[int, int]]:
    try:
        layout = block.layout()
    except BlockDamaged as error:
        what = UnreadableEntries(block.first_seq, block.last_seq, str(error))
        raise unreadable(what) from None
    both = map(sum, zip(layout.record_ends, layout.payload_ends, strict=True))
    return [
        (seq, end - start - HASH_BYTES)
        for seq, (start, end) in enumerate(pairwise((0, *both)), block.first_seq)
    ]


async def entries(database: Database, org_id: int, first: int, last: int) -> list[StoredEntry]:
    """Return the stored entries of these seqs; where some are stored twice, at least one more.

    Raises DamagedTrail where they have more than SPAN_BYTES, too.
    """
    found: list[StoredEntry] = []
    room = SPAN_BYTES
    async for page in blocks.pages(database, org_id, first, last):
        some = await entries_of(page, first, last)
        found += some
        room -= size_of(some)
        if room < 0:
            raise unreadable(UnreadableEntries(first, last, TOO_LARGE))
        if len(found) > last - first + 1:
            break
    return found


def size_of(some: Sequence[StoredEntry]) -> int:
    """Return the bytes of the leaves and payloads of these entries."""
    return sum(len(entry.leaf) + len(entry.payload) for entry in some)
