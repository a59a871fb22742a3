"""Entries as streams of binary COPY: for verification by segments, for the signer leaves only."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

from ledger.entry import HASH_BYTES, MAX_LEAF_BYTES
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
# LATERAL pins one primary key probe per org and partition, and the lower time excludes earlier
# partitions. A value of an impossible size is read as NULL: it must not fill memory.
LEAVES: Final = f"""
SELECT e.org_id, e.seq, e.entry_hash, e.signature, e.leaf
FROM unnest('{{{{{{org_ids}}}}}}'::bigint[], '{{{{{{lower}}}}}}'::bigint[],
            '{{{{{{upper}}}}}}'::bigint[])
     WITH ORDINALITY AS w (org_id, lower, upper, place)
CROSS JOIN LATERAL (
    SELECT org_id, seq,
           CASE WHEN octet_length(entry_hash) = {HASH_BYTES} THEN entry_hash END AS entry_hash,
           CASE WHEN octet_length(signature) = {HASH_BYTES} THEN signature END AS signature,
           CASE WHEN octet_length(leaf) <= {MAX_LEAF_BYTES} THEN leaf END AS leaf
    FROM entries e
    WHERE e.org_id = w.org_id AND e.seq >= w.lower AND e.seq < w.upper
      AND e.anchored_at >= to_timestamp({{since_us:d}} / 1e6) - interval '1 second'
    ORDER BY e.seq, e.anchored_at
) AS e"""


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
    query = LEAVES.format(
        org_ids=_integers(org for org, _, _ in ranges),
        lower=_integers(lower for _, lower, _ in ranges),
        upper=_integers(upper for _, _, upper in ranges),
        since_us=since_us,
    )
    await connection.copy_from_query(query, output=sink, format="binary", timeout=timeout)


def _integers(values: Iterable[int]) -> str:
    return ",".join(f"{value:d}" for value in values)
