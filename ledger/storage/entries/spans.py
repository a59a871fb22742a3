"""Entries of a whole span of seqs: their leaves, their sizes, or all of them.

A seq that is missing or stored twice shows in the answer: the caller counts.
"""

from __future__ import annotations

from typing import Final

from ledger.chain import StoredEntry
from ledger.entry import MAX_LEAF_BYTES
from ledger.storage.database import Database
from ledger.storage.entries.columns import ENTRY_COLUMNS

MAX_PAYLOAD_BYTES: Final = (64 << 20) + 1024
"""Largest size of a stored payload, including its seal."""

# A trail is usually longer than its signed tree: only leaves inside the tree are returned.
SIGNED_LEAVES: Final = """
SELECT seq, leaf FROM entries
WHERE org_id = $1 AND seq >= $2 AND seq < $3
  AND $3 <= (SELECT size FROM trees WHERE org_id = $1)
ORDER BY seq, anchored_at LIMIT 257"""
SIZES: Final = f"""
SELECT seq, octet_length(leaf)::bigint + octet_length(payload),
       octet_length(leaf) <= {MAX_LEAF_BYTES} AND octet_length(payload) <= {MAX_PAYLOAD_BYTES}
FROM entries WHERE org_id = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq, anchored_at LIMIT $4"""
ENTRIES: Final = f"""
SELECT {ENTRY_COLUMNS} FROM entries
WHERE org_id = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq, anchored_at LIMIT $4"""


async def signed_leaves(
    database: Database, org_id: int, first: int, upper: int
) -> list[tuple[int, bytes]]:
    """Return (seq, leaf) of at most 257 entries from ``first`` to ``upper - 1``.

    None of them if the signed tree of the org is smaller than ``upper``.
    """
    rows = await database.fetch(SIGNED_LEAVES, org_id, first, upper)
    return [(row[0], row[1]) for row in rows]


async def sizes(
    database: Database, org_id: int, first: int, last: int
) -> list[tuple[int, int, bool]]:
    """Return for each entry: seq, bytes of leaf and payload, and whether both keep their limits."""
    rows = await database.fetch(SIZES, org_id, first, last, last - first + 2)
    return [(row[0], row[1], row[2]) for row in rows]


async def entries(database: Database, org_id: int, first: int, last: int) -> list[StoredEntry]:
    """Return the stored entries of these seqs."""
    rows = await database.fetch(ENTRIES, org_id, first, last, last - first + 2)
    return [StoredEntry(*row) for row in rows]
