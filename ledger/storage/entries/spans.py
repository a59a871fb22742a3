"""Entries of a whole span of seqs: their leaves, their sizes, or all of them.

A seq that is missing, unreadable or stored twice shows in the answer: the caller counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ledger.blocks.block import Block
from ledger.blocks.layout import BLOCK_BYTES, BLOCK_ENTRIES, BlockDamaged, read_ends
from ledger.blocks.reading import records_of
from ledger.chain import StoredEntry
from ledger.entry import HASH_BYTES
from ledger.storage.database import Database
from ledger.storage.entries.blocks import contents_of, overlapping
from ledger.storage.entries.columns import BLOCK_COLUMNS

MAX_BUNDLE: Final = 257
"""Leaves that one answer has at most: those of a bundle, and one that is too many."""
MAX_ENDS_BYTES: Final = 1 + 4 * 4 * BLOCK_ENTRIES
"""``ends`` at most: two ends an entry, and a frame of its records and of its payloads each."""

_OF_SPAN: Final = """
FROM entries WHERE org_id = $1 AND last_seq >= $2 AND last_seq <= ($3::bigint | 255)
  AND first_seq <= $3 ORDER BY last_seq, anchored_at LIMIT $4"""
_LEAVES_ONLY: Final = BLOCK_COLUMNS.replace(
    "leaves, payloads",
    f"CASE WHEN octet_length(leaves) <= {2 * BLOCK_BYTES} THEN leaves ELSE '' END, ''::bytea",
)
# A trail is usually longer than its signed tree: only leaves inside the tree are returned.
SIGNED_LEAVES: Final = f"""
SELECT * FROM (SELECT {_LEAVES_ONLY} {_OF_SPAN}) AS span
WHERE $3 < (SELECT size FROM trees WHERE org_id = $1)"""
SIZES: Final = f"""
SELECT first_seq, last_seq, CASE WHEN octet_length(ends) <= {MAX_ENDS_BYTES} THEN ends ELSE '' END
{_OF_SPAN}"""


async def signed_leaves(
    database: Database, org_id: int, first: int, upper: int
) -> list[tuple[int, bytes]]:
    """Return (seq, leaf) of at most 257 entries from ``first`` to ``upper - 1``.

    None of them if the signed tree of the org is smaller than ``upper``.
    """
    rows = await database.fetch(SIGNED_LEAVES, org_id, first, upper - 1, MAX_BUNDLE)
    found: list[tuple[int, bytes]] = []
    for row in rows:
        found += [(seq, leaf) for seq, leaf in _leaves(Block(*row)) if first <= seq < upper]
    return found[:MAX_BUNDLE]


def _leaves(block: Block) -> Iterator[tuple[int, bytes]]:
    """Yield seq and leaf of each entry of a block; nothing of a damaged one."""
    try:
        records = records_of(block)
    except BlockDamaged:
        return
    for seq, record in enumerate(records, block.first_seq):
        yield seq, record[HASH_BYTES:]


async def sizes(
    database: Database, org_id: int, first: int, last: int
) -> list[tuple[int, int, bool]]:
    """Return for each entry: seq, bytes of leaf and payload, and whether it may have that size."""
    rows = await database.fetch(SIZES, org_id, first, last, last - first + 2)
    found: list[tuple[int, int, bool]] = []
    for first_seq, last_seq, ends in rows:
        kept = range(max(first_seq, first), min(last_seq, last) + 1)
        found += _sizes(first_seq, last_seq, ends, kept)
    return found[: last - first + 2]


def _sizes(
    first_seq: int, last_seq: int, ends: bytes, kept: range
) -> Iterator[tuple[int, int, bool]]:
    """Yield seq, size and True for these entries of a block, 0 and False where it is damaged."""
    try:
        layout = read_ends(ends, last_seq - first_seq + 1)
    except BlockDamaged:
        for seq in kept:
            yield seq, 0, False
        return
    places = [(0, 0), *zip(layout.record_ends, layout.payload_ends, strict=True)]
    for seq in kept:
        (record, payload), (record_end, payload_end) = places[seq - first_seq :][:2]
        yield seq, record_end - record - HASH_BYTES + payload_end - payload, True


async def entries(database: Database, org_id: int, first: int, last: int) -> list[StoredEntry]:
    """Return the stored entries of these seqs, as far as they can be read."""
    most = last - first + 2
    found: list[StoredEntry] = []
    for block in await contents_of(await overlapping(database, org_id, first, last, limit=most)):
        found += [entry for entry in block.entries if first <= entry.seq <= last]
    return found[:most]
