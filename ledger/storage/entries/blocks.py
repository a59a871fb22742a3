"""Blocks of a trail, fetched by the seqs that they hold, and decoded off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from ledger.blocks.block import Block
from ledger.blocks.layout import BLOCK_BYTES
from ledger.blocks.reading import BlockContents, contents
from ledger.storage.database import Connection, Database
from ledger.storage.entries.columns import BLOCK_COLUMNS

PAGE_BLOCKS: Final = 16
LOOP_BYTES: Final = 128 << 10
"""Stored bytes that are decoded on the event loop; more are decoded on another thread."""
MAX_BLOCK_BYTES: Final = (64 << 20) + BLOCK_BYTES
"""Stored bytes of a column of a block at most; more is read as if it were empty."""

_BOUNDED: Final = BLOCK_COLUMNS.replace(
    "leaves, payloads",
    f"CASE WHEN octet_length(leaves) <= {MAX_BLOCK_BYTES} THEN leaves ELSE '' END, "
    f"CASE WHEN octet_length(payloads) <= {MAX_BLOCK_BYTES} THEN payloads ELSE '' END",
)
# A block never crosses a multiple of 256 seqs: one range of the primary key per partition.
OVERLAPPING: Final = f"""
SELECT {_BOUNDED} FROM entries
WHERE org_id = $1 AND last_seq >= $2 AND last_seq <= ($3::bigint | 255) AND first_seq <= $3
  AND ($4::timestamptz IS NULL OR anchored_at >= $4) AND ($5::timestamptz IS NULL OR anchored_at <= $5)
ORDER BY last_seq, anchored_at LIMIT $6"""


async def overlapping(
    queries: Connection | Database,
    org_id: int,
    first: int,
    last: int,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = PAGE_BLOCKS,
) -> list[Block]:
    """Return the first blocks that hold any of the entries ``first`` to ``last``, in their order.

    ``since`` and ``until``, both included, limit the months that are searched. A trail that was
    tampered with may have several blocks for one seq.
    """
    rows = await queries.fetch(OVERLAPPING, org_id, first, last, since, until, limit)
    return [Block(*row) for row in rows]


async def contents_of(blocks: Sequence[Block]) -> list[BlockContents]:
    """Return the contents of each block."""
    if sum(len(block.leaves) + len(block.payloads) for block in blocks) <= LOOP_BYTES:
        return [contents(block) for block in blocks]
    return await asyncio.to_thread(lambda: [contents(block) for block in blocks])
