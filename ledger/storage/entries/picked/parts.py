"""Some entries of a block: only the parts of its columns that hold them are read.

A column of at most WHOLE_BYTES comes with the row; of a longer one a second query reads the part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from ledger.blocks.block import Block
from ledger.blocks.picking import ByteRange, EntriesUnreadable, Part, Picked, Record
from ledger.chain import StoredEntry
from ledger.storage.database import Connection, Database
from ledger.storage.entries.blocks import LOOP_BYTES, key_columns, unreadable

WHOLE_BYTES: Final = 128 << 10
NOTHING: Final = ByteRange(0, 0)

ROW: Final = (
    f"{key_columns()}, "
    f"CASE WHEN octet_length(leaves) <= {WHOLE_BYTES} THEN leaves END, "
    f"CASE WHEN octet_length(payloads) <= {WHOLE_BYTES} THEN payloads END"
)
"""The columns of a :class:`Row`."""
# LATERAL with LIMIT pins the plan: one primary key probe for each block.
PARTS: Final = """
SELECT w.place, coalesce(substring(e.leaves FROM w.leaves_at FOR w.leaves_size), ''),
       coalesce(substring(e.payloads FROM w.payloads_at FOR w.payloads_size), '')
FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::int[], $5::int[], $6::int[], $7::int[])
     WITH ORDINALITY AS w (org_id, last_seq, anchored_at, leaves_at, leaves_size, payloads_at,
                           payloads_size, place)
CROSS JOIN LATERAL (
    SELECT leaves, payloads FROM entries
    WHERE org_id = w.org_id AND last_seq = w.last_seq AND anchored_at = w.anchored_at LIMIT 1
) AS e"""


class Row(NamedTuple):
    """A block without its two large columns; these are beside it if they are short."""

    block: Block
    leaves: bytes | None
    payloads: bytes | None


def row_of(values: Iterable[Any]) -> Row:
    """Return the row with these columns, those of :data:`ROW`."""
    *keys, leaves, payloads = values
    return Row(Block._make((*keys, b"", b"")), leaves, payloads)


async def fetch(
    queries: Connection | Database, wanted: Sequence[tuple[Block, ByteRange, ByteRange]]
) -> list[tuple[Part, Part] | None]:
    """Return these parts of ``leaves`` and ``payloads`` of each block; None for a missing block."""
    places = [(leaves.start, payloads.start) for _, leaves, payloads in wanted]
    rows = await queries.fetch(
        PARTS,
        [block.org_id for block, _, _ in wanted],
        [block.last_seq for block, _, _ in wanted],
        [block.anchored_at for block, _, _ in wanted],
        [leaves + 1 for leaves, _ in places],
        [leaves.size for _, leaves, _ in wanted],
        [payloads + 1 for _, payloads in places],
        [payloads.size for _, _, payloads in wanted],
    )
    found = {row[0] - 1: (row[1], row[2]) for row in rows}
    return [
        (Part(at, found[place][0]), Part(beside, found[place][1])) if place in found else None
        for place, (at, beside) in enumerate(places)
    ]


async def entry(
    queries: Connection | Database, values: Iterable[Any], seq: int
) -> StoredEntry | None:
    """Return an entry of a block; ``values`` are its :data:`ROW`. Raises DamagedTrail.

    None if the block's month was dropped in the meantime.
    """
    row = row_of(values)
    try:
        picked = Picked(row.block, [seq])
        parts = await _parts(queries, row, picked)
        if parts is None:
            return None
        if picked.raw_payload_bytes <= LOOP_BYTES:
            return picked.entries(*parts)[0]
        return (await asyncio.to_thread(picked.entries, *parts))[0]
    except EntriesUnreadable as error:
        raise unreadable(error.what) from None


async def record(queries: Connection | Database, row: Row, seq: int) -> Record | None:
    """Return signature, leaf and stored hash of an entry. Raises DamagedTrail.

    None if the block's month was dropped in the meantime.
    """
    try:
        picked = Picked(row.block, [seq])
        parts = await _parts(queries, row._replace(payloads=b""), picked)
        return None if parts is None else picked.records(parts[0])[0]
    except EntriesUnreadable as error:
        raise unreadable(error.what) from None


async def _parts(
    queries: Connection | Database, row: Row, picked: Picked
) -> tuple[Part, Part] | None:
    leaves = picked.leaves if row.leaves is None else NOTHING
    payloads = picked.payloads if row.payloads is None else NOTHING
    if leaves is payloads is NOTHING:
        return Part(0, row.leaves or b""), Part(0, row.payloads or b"")
    (read,) = await fetch(queries, [(row.block, leaves, payloads)])
    if read is None:
        return None
    return (
        read[0] if row.leaves is None else Part(0, row.leaves),
        read[1] if row.payloads is None else Part(0, row.payloads),
    )
