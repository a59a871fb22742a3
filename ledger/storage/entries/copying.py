"""Blocks as streams of binary COPY: whole for verification by segments, for the signer leaves only.

A value of an impossible size is read as NULL: it must not fill memory.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

from ledger.blocks.block import TAG_BYTES
from ledger.blocks.layout import BLOCK_BYTES, BLOCK_ENTRIES, MAX_PAYLOAD_BYTES
from ledger.entry import HASH_BYTES
from ledger.storage.database import Connection

Sink = Callable[[bytes], Coroutine[Any, Any, None]]

MAX_ENDS_BYTES: Final = 1 + 4 * 4 * BLOCK_ENTRIES
"""The ends of a block in which each entry has two frames of its own."""
LEAVES_COLUMNS: Final = 6
"""Columns of the rows that :func:`leaves` sends."""


def _bounded(column: str, size: int) -> str:
    return f"CASE WHEN octet_length({column}) <= {size} THEN {column} END AS {column}"


_LAST_HASH: Final = _bounded("last_hash", HASH_BYTES)
_ENDS: Final = _bounded("ends", MAX_ENDS_BYTES)
_LEAVES: Final = _bounded("leaves", BLOCK_BYTES)
# COPY takes no parameters; the format admits integers only. A block never crosses a multiple of
# 256 seqs: blocks with any of the entries are one range of the primary key per partition.
SEGMENT: Final = f"""
SELECT org_id, last_seq, anchored_at, first_seq, {_LAST_HASH}, raw_bytes,
       {_bounded("tags", 2 * TAG_BYTES * BLOCK_ENTRIES)}, {_ENDS}, {_LEAVES},
       {_bounded("payloads", MAX_PAYLOAD_BYTES)}
FROM entries
WHERE org_id = {{org_id:d}} AND last_seq BETWEEN {{lower:d}} AND {{upper:d}}
ORDER BY last_seq, anchored_at"""
# LATERAL pins one range of the primary key per org and partition, and the lower time excludes
# earlier partitions.
LEAVES: Final = f"""
SELECT e.*
FROM unnest('{{{{{{org_ids}}}}}}'::bigint[], '{{{{{{lower}}}}}}'::bigint[],
            '{{{{{{upper}}}}}}'::bigint[])
     WITH ORDINALITY AS w (org_id, lower, upper, place)
CROSS JOIN LATERAL (
    SELECT org_id, last_seq, first_seq, {_LAST_HASH}, {_ENDS}, {_LEAVES}
    FROM entries e
    WHERE e.org_id = w.org_id AND e.last_seq >= w.lower AND e.last_seq <= ((w.upper - 1) | 255)
      AND e.first_seq < w.upper
      AND e.anchored_at >= to_timestamp({{since_us:d}} / 1e6) - interval '1 second'
    ORDER BY e.last_seq, e.anchored_at
) AS e"""


async def segment(
    connection: Connection, org_id: int, lower: int, upper: int, sink: Sink, *, timeout: float
) -> None:
    """Stream the blocks with any of the entries ``lower`` to ``upper`` into the sink.

    Raises asyncpg's errors.
    """
    await connection.copy_from_query(
        SEGMENT.format(org_id=org_id, lower=lower, upper=upper | (BLOCK_ENTRIES - 1)),
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
    """Stream the blocks with any of the entries of each (org_id, lower, upper - 1) of ranges.

    A row is org_id, last_seq, first_seq, last_hash, ends, leaves. ``since_us`` is a time at or
    before that of all these entries. Raises asyncpg's errors.
    """
    query = LEAVES.format(
        org_ids=_integers(org for org, _, _ in ranges),
        lower=_integers(lower for _, lower, _ in ranges),
        upper=_integers(upper for _, _, upper in ranges),
        since_us=since_us,
    )
    await connection.copy_from_query(query, output=sink, format="binary", timeout=timeout)


def _integers(values: Iterable[int]) -> str:
    return ",".join(f"{value:d}" for value in values)
