"""Entries as streams of binary COPY: for verification by segments, for the signer leaves only."""

from __future__ import annotations

import struct
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from ledger.blocks.block import Block
from ledger.blocks.reading import previous_hash_of, records_of
from ledger.entry import HASH_BYTES
from ledger.storage.copy_format import COPY_SIGNATURE, COPY_TRAILER
from ledger.storage.database import Connection

Sink = Callable[[bytes], Coroutine[Any, Any, None]]

MAX_CELL_BYTES: Final = 32 * 1024 * 1024
"""A larger value is read as NULL: Quire never writes such a value, and it must not fill memory."""

# COPY takes no parameters; the format admits integers only.
SEGMENT: Final = f"""
SELECT org_id, seq, anchored_at, actor_tag, subject_tag,
       CASE WHEN octet_length(entry_hash) <= {MAX_CELL_BYTES} THEN entry_hash END,
       CASE WHEN octet_length(signature) <= {MAX_CELL_BYTES} THEN signature END,
       CASE WHEN octet_length(leaf) <= {MAX_CELL_BYTES} THEN leaf END,
       CASE WHEN octet_length(payload) <= {MAX_CELL_BYTES} THEN payload END
FROM entries
WHERE org_id = {{org_id:d}} AND seq BETWEEN {{lower:d}} AND {{upper:d}}
ORDER BY seq, anchored_at"""
# LATERAL pins one primary key range per org and partition, and the lower time excludes earlier
# partitions.
LEAVES: Final = """
SELECT w.lower, w.upper, e.org_id, e.last_seq, e.anchored_at, e.first_seq, e.last_hash, e.ends, e.leaves
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
     WITH ORDINALITY AS w (org_id, lower, upper, place)
CROSS JOIN LATERAL (
    SELECT * FROM entries e
    WHERE e.org_id = w.org_id AND e.last_seq >= w.lower AND e.first_seq < w.upper
      AND e.anchored_at >= to_timestamp($4 / 1e6) - interval '1 second'
      AND e.last_seq <= ((w.upper - 1) | 255)
    ORDER BY e.last_seq, e.anchored_at
) AS e ORDER BY w.place, e.last_seq, e.anchored_at"""
_LEAF_ROW: Final = struct.Struct(">hiqiqi32si32si")
_COPY_HEADER: Final = COPY_SIGNATURE + bytes(8)


async def segment(
    connection: Connection, org_id: int, lower: int, upper: int, sink: Sink, *, timeout: float
) -> None:
    """Stream the entries ``lower`` to ``upper`` into the sink. Raises asyncpg's errors."""
    await connection.copy_from_query(
        SEGMENT.format(org_id=org_id, lower=lower, upper=upper),
        output=sink,
        format="binary",
        timeout=timeout,
    )


async def leaves(
    connection: Connection,
    ranges: Sequence[tuple[int, int, int]],
    since_us: int,
    sink: Sink,
    *,
    timeout: float,
) -> None:
    """Stream org_id, seq, hash, signature and leaf for each (org_id, lower, upper - 1) of ranges.

    ``since_us`` is a time at or before that of all these entries. Raises asyncpg's errors.
    """
    await sink(_COPY_HEADER)
    rows = await connection.fetch(
        LEAVES,
        [org for org, _, _ in ranges],
        [lower for _, lower, _ in ranges],
        [upper for _, _, upper in ranges],
        since_us,
        timeout=timeout,
    )
    for lower, upper, org_id, last_seq, at, first_seq, last_hash, ends, stored in rows:
        block = Block(org_id, last_seq, at, first_seq, last_hash, 0, b"", ends, stored, b"")
        await sink(_leaf_rows(block, lower, upper))
    await sink(COPY_TRAILER)


def _leaf_rows(block: Block, lower: int, upper: int) -> bytes:
    parts: list[bytes] = []
    records = records_of(block)
    links = [*(previous_hash_of(record[HASH_BYTES:]) for record in records[1:]), block.last_hash]
    seq = block.first_seq
    for record, link in zip(records, links, strict=True):
        if lower <= seq < upper:
            leaf = record[HASH_BYTES:]
            parts.append(
                _LEAF_ROW.pack(
                    5, 8, block.org_id, 8, seq, 32, link, 32, record[:HASH_BYTES], len(leaf)
                )
            )
            parts.append(leaf)
        seq += 1
    return b"".join(parts)
