"""Which seqs of a trail are stored at all, for verification. Functions raise asyncpg's errors."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from ledger.blocks.frames import content_of
from ledger.blocks.layout import BLOCK_BYTES, BlockDamaged, read_ends
from ledger.entry import HASH_BYTES, MAX_SEQ
from ledger.storage.database import Connection
from ledger.storage.entries.copying import MAX_ENDS_BYTES
from ledger.storage.queries import Queries

# An oversized value is read as NULL: no valid leaf or hash is that long.
NEWEST: Final = f"""
SELECT last_seq, first_seq,
       CASE WHEN octet_length(last_hash) = {HASH_BYTES} THEN last_hash END,
       CASE WHEN octet_length(ends) <= {MAX_ENDS_BYTES} THEN ends END,
       CASE WHEN octet_length(leaves) <= {BLOCK_BYTES} THEN leaves END
FROM entries WHERE org_id = $1 ORDER BY last_seq DESC LIMIT 1"""
BELOW: Final = """
SELECT first_seq, last_seq FROM entries
WHERE org_id = $1 AND last_seq <= (($2::bigint - 1) | 255) AND first_seq < $2
ORDER BY last_seq LIMIT $3"""
# Blocks may have been planted with the same seq: the earliest time counts.
WRITTEN: Final = """
SELECT min(CASE WHEN anchored_at BETWEEN 'epoch' AND '9999-12-31T23:59:59.999999Z'
           THEN (extract(epoch FROM anchored_at) * 1000000)::bigint END)
FROM entries
WHERE org_id = $1 AND last_seq BETWEEN $2 AND ($2::bigint | 255) AND first_seq <= $2"""
# The blocks of the first window with a higher seq: planted ones may overlap.
NEXT_SEQ: Final = """
SELECT min(first_seq) FROM entries
WHERE org_id = $1 AND last_seq > $2 AND last_seq <= (
    SELECT last_seq | 255 FROM entries WHERE org_id = $1 AND last_seq > $2
    ORDER BY last_seq LIMIT 1
)"""
# Times that Python can't hold are those of no block that is read.
BLOCKS_AFTER: Final = f"""
SELECT last_seq, anchored_at, xmin::text FROM entries
WHERE org_id = $1 AND last_seq > $2 AND last_seq < {MAX_SEQ}
  AND anchored_at BETWEEN 'epoch' AND '4253-01-01Z'
ORDER BY last_seq, anchored_at LIMIT $3"""


class BlockVersion(NamedTuple):
    """A block as it stands: its keys, and the transaction that wrote this version of its row."""

    last_seq: int
    anchored_at: datetime
    version: str


class NewestRow(NamedTuple):
    """The entry with the highest seq, unverified."""

    seq: int
    entry_hash: bytes | None
    leaf: bytes | None


async def newest(connection: Connection, org_id: int) -> NewestRow | None:
    """Return the entry with the highest seq, or None."""
    row = await connection.fetchrow(NEWEST, org_id)
    if row is None:
        return None
    last_seq, first_seq, last_hash, ends, leaves = row
    entries = 0 if first_seq is None else last_seq - first_seq + 1
    return NewestRow(last_seq, last_hash, _last_leaf(ends or b"", leaves or b"", entries))


def _last_leaf(ends: bytes, leaves: bytes, entries: int) -> bytes | None:
    """Return the leaf of the last entry of a block, None if it can't be read."""
    try:
        layout = read_ends(ends, entries)
        frame = layout.record_frames[-1]
        content = content_of(leaves[frame.start : frame.start + frame.size], frame)
    except BlockDamaged:
        return None
    start = layout.record_ends[-2] if entries > 1 else 0
    return content[start - frame.raw_start + HASH_BYTES :]


async def written_us(connection: Connection, org_id: int, seq: int) -> int | None:
    """Return the time at which an entry was written; None if it is not in the database."""
    written: int | None = await connection.fetchval(WRITTEN, org_id, seq)
    return written


async def seqs_below(connection: Connection, org_id: int, upper: int, limit: int) -> list[int]:
    """Return the lowest seqs of entries below ``upper``, at most ``limit``."""
    seqs: list[int] = []
    for first, last in await connection.fetch(BELOW, org_id, upper, limit):
        seqs += range(first, min(last + 1, upper, first + limit))
    return sorted(seqs)[:limit]


async def next_seq(connection: Connection, org_id: int, after: int) -> int | None:
    """Return the lowest seq of an entry above ``after``, or None."""
    first: int | None = await connection.fetchval(NEXT_SEQ, org_id, after)
    return None if first is None else max(first, after + 1)


async def blocks_after(queries: Queries, org_id: int, seq: int, limit: int) -> list[BlockVersion]:
    """Return the first blocks that end after a seq, without reading what they hold."""
    rows = await queries.fetch(BLOCKS_AFTER, org_id, seq, limit)
    return [BlockVersion(*row) for row in rows]
