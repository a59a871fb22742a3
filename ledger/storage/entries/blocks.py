"""Blocks of a trail, fetched by the seqs that they hold, and decoded off the event loop."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from ledger.blocks.block import TAG_BYTES, Block
from ledger.blocks.layout import BLOCK_BYTES, BLOCK_ENTRIES, BlockDamaged
from ledger.blocks.reading import BlockContents, UnreadableEntries, contents
from ledger.chain import StoredEntry
from ledger.entry import HASH_BYTES, to_datetime
from ledger.errors import ProblemType, StorageError
from ledger.storage.database import Connection, Database
from ledger.storage.entries.columns import PAGE_BYTES

PAGE_BLOCKS: Final = 16
LOOP_BYTES: Final = 128 << 10
"""Raw bytes that are decoded on the event loop; more are decoded on another thread."""
MAX_BLOCK_BYTES: Final = (64 << 20) + BLOCK_BYTES
"""Stored bytes of a column of a block at most; more is read as if it were empty."""
MAX_ENDS_BYTES: Final = 1 + 4 * 4 * BLOCK_ENTRIES
EARLIEST: Final = to_datetime(0)
LATEST: Final = datetime(4253, 1, 1, tzinfo=UTC)
"""Blocks of other times are not found: Quire writes none, and Python can't hold every time."""


def key_columns(of: str = "entries") -> str:
    """Return the SQL of the columns of a block up to ``ends``.

    Of a value that is too long only one byte too many is read; NULL, which only an owner can
    store, is read as an impossible value.
    """
    return (
        f"{of}.org_id, {of}.last_seq, {of}.anchored_at, coalesce({of}.first_seq, -1), "
        f"{_start(of, 'last_hash', HASH_BYTES)}, coalesce({of}.raw_bytes, -1), "
        f"{_start(of, 'tags', 2 * TAG_BYTES * BLOCK_ENTRIES)}, {_start(of, 'ends', MAX_ENDS_BYTES)}"
    )


def _start(of: str, column: str, size: int) -> str:
    """Return the SQL of a column's bytes, but for those after the first that is too many."""
    return f"coalesce(substring({of}.{column} FROM 1 FOR {size + 1}), '')"


_BOUNDED: Final = (
    f"{key_columns()}, "
    f"CASE WHEN octet_length(leaves) <= {MAX_BLOCK_BYTES} THEN leaves ELSE '' END, "
    f"CASE WHEN octet_length(payloads) <= {MAX_BLOCK_BYTES} THEN payloads ELSE '' END"
)
# A block never crosses a multiple of 256 seqs: one range of the primary key per partition.
_OVERLAPPING: Final = """
FROM entries
WHERE org_id = $1 AND last_seq >= $2 AND last_seq <= ($3::bigint | 255) AND first_seq <= $3
  AND anchored_at >= $4 AND anchored_at <= $5"""
OVERLAPPING: Final = f"""
SELECT {_BOUNDED} {_OVERLAPPING}
ORDER BY last_seq, anchored_at LIMIT $6"""
# The sizes are known without reading the columns. Blocks of the page before are left out by their
# keys: in a trail that was tampered with, two blocks may end at the same seq.
PAGE: Final = f"""
SELECT {_BOUNDED} FROM (
    SELECT *, sum(octet_length(leaves)::bigint + octet_length(payloads))
              OVER (ORDER BY last_seq, anchored_at) AS upto
    FROM (
        SELECT * {_OVERLAPPING} AND (last_seq, anchored_at) > ($2, $7::timestamptz)
        ORDER BY last_seq, anchored_at LIMIT $6
    ) AS page
) AS entries
WHERE upto - octet_length(leaves) - octet_length(payloads) < {PAGE_BYTES}
ORDER BY last_seq, anchored_at"""
# For each run of seqs: the blocks that end in it, and the next one if it begins in it. LATERAL
# with LIMIT pins the plan: two ranges of the primary key for each run. A run has as many blocks as
# seqs at most: one more shows that some are doubled, the others are not read.
HOLDING: Final = f"""
SELECT {key_columns("e")}, ''::bytea, ''::bytea
FROM unnest($2::bigint[], $3::bigint[]) AS w (low, high)
CROSS JOIN LATERAL (
    (SELECT *, row_number() OVER (ORDER BY last_seq, anchored_at) AS number FROM (
        SELECT * FROM entries
        WHERE org_id = $1 AND last_seq >= w.low AND last_seq <= w.high
          AND anchored_at >= $4 AND anchored_at <= $5
        ORDER BY last_seq, anchored_at LIMIT {BLOCK_ENTRIES + 1}) AS ended)
    UNION ALL
    (SELECT *, 0 FROM entries
     WHERE org_id = $1 AND last_seq > w.high AND last_seq <= (w.high | 255)
       AND anchored_at >= $4 AND anchored_at <= $5
     ORDER BY last_seq, anchored_at LIMIT 1)
) AS e WHERE e.first_seq <= w.high AND e.number <= w.high - w.low + 2 ORDER BY e.last_seq, e.anchored_at"""

_BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)


class DamagedTrail(StorageError):
    """Entries of a trail are missing, stored twice, or can't be read.

    The message names no org: callers may not know its number.
    """

    problem_type = ProblemType(
        "trail-damaged",
        500,
        "Entries can't be read as they were written",
        "entries 32 to 63 can't be read: the frame of its entries 32 to 63 has not the bytes that "
        "were written. Run a full verification of this trail",
    )


def unreadable(what: UnreadableEntries) -> DamagedTrail:
    """Return the error for entries that can't be read."""
    return DamagedTrail(
        f"entries {what.first_seq} to {what.last_seq} can't be read: "
        f"{what.reason}. Run a full verification of this trail"
    )


async def overlapping(
    queries: Connection | Database,
    org_id: int,
    first: int,
    last: int,
    *,
    since: datetime = EARLIEST,
    until: datetime = LATEST,
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
    if sum(map(raw_size, blocks)) <= LOOP_BYTES:
        return [contents(block) for block in blocks]
    return await asyncio.to_thread(lambda: [contents(block) for block in blocks])


async def pages(
    queries: Connection | Database,
    org_id: int,
    first: int,
    last: int,
    *,
    since: datetime = EARLIEST,
    until: datetime = LATEST,
    limit: int = PAGE_BLOCKS,
) -> AsyncIterator[list[Block]]:
    """Yield all blocks that hold any of the entries ``first`` to ``last``, in their order.

    A page ends at ``limit`` blocks, or with the block that makes it exceed PAGE_BYTES, stored or
    raw.
    """
    low, after = first, _BEFORE_ALL
    while rows := await queries.fetch(PAGE, org_id, low, last, since, until, limit, after):
        page = within([Block(*row) for row in rows], PAGE_BYTES)
        low, after = page[-1].last_seq, page[-1].anchored_at
        yield page


def within(blocks: Sequence[Block], raw_bytes: int) -> list[Block]:
    """Return the first of these blocks, up to the one with which they exceed so many raw bytes."""
    page: list[Block] = []
    for block in blocks:
        page.append(block)
        raw_bytes -= raw_size(block)
        if raw_bytes <= 0:
            break
    return page


def raw_size(block: Block) -> int:
    """Return how many bytes a block inflates to: as its column ``ends`` says, not as it claims."""
    try:
        return block.layout().raw_bytes
    except BlockDamaged:
        return 0  # it is not inflated


async def entries_of(blocks: Sequence[Block], first: int, last: int) -> list[StoredEntry]:
    """Return the entries ``first`` to ``last`` of these blocks. Raises DamagedTrail."""
    entries: list[StoredEntry] = []
    for found in await contents_of(blocks):
        for what in found.unreadable:
            if what.first_seq <= last and what.last_seq >= first:
                raise unreadable(what)
        entries += [entry for entry in found.entries if first <= entry.seq <= last]
    return entries


async def holding(
    queries: Connection | Database,
    org_id: int,
    seqs: Iterable[int],
    *,
    since: datetime = EARLIEST,
    until: datetime = LATEST,
) -> list[Block]:
    """Return the blocks that hold these seqs, without leaves and payloads, in their order."""
    wanted = _runs(seqs)
    lows, highs = [low for low, _ in wanted], [high for _, high in wanted]
    rows = await queries.fetch(HOLDING, org_id, lows, highs, since, until)
    found = [Block(*row) for row in rows]
    return list({(block.last_seq, block.anchored_at): block for block in found}.values())


def seqs_in(block: Block, seqs: Sequence[int]) -> Sequence[int]:
    """Return those of these ascending seqs that a block holds."""
    return seqs[bisect_left(seqs, block.first_seq) : bisect_right(seqs, block.last_seq)]


def _runs(seqs: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and last of each run of consecutive seqs; none crosses a multiple of 256."""
    found: list[tuple[int, int]] = []
    for seq in sorted(set(seqs)):
        if found and found[-1][1] == seq - 1 and seq % BLOCK_ENTRIES:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return found
