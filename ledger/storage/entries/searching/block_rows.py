"""Rows of blocks for a search, in parts: tags first, then the chosen blocks, then single frames.

Whatever the owner of the database planted, one answer has a bounded number of bytes: a column
that is too long is read as empty, which makes its block unreadable, or in frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

from ledger.blocks.layout import BLOCK_ENTRIES
from ledger.blocks.selecting import PAIR_BYTES, BlockRow
from ledger.blocks.slices import EntrySlice
from ledger.storage.database import Connection
from ledger.storage.entries.blocks import EARLIEST, LATEST
from ledger.storage.entries.searching.slicing import sliced

ROWS_AT_ONCE: Final = 1_024
"""Blocks that one statement returns at most."""
BYTES_AT_ONCE: Final = 4 << 20
"""Stored bytes of leaves and payloads that one statement returns; its last row may exceed them."""
_TAGS_BYTES: Final = PAIR_BYTES * BLOCK_ENTRIES
_ENDS_BYTES: Final = 1 + 4 * 4 * BLOCK_ENTRIES

_TAGS: Final = f"CASE WHEN octet_length(tags) <= {_TAGS_BYTES} THEN tags ELSE '' END AS tags"
_BLOCK: Final = f"""last_seq, anchored_at, first_seq,
    CASE WHEN octet_length(last_hash) = 32 THEN last_hash ELSE '' END AS last_hash, {_TAGS},
    CASE WHEN octet_length(ends) <= {_ENDS_BYTES} THEN ends ELSE '' END AS ends,
    CASE WHEN octet_length(leaves) <= $1 THEN leaves END AS leaves,
    CASE WHEN octet_length(payloads) <= $2 THEN payloads END AS payloads"""
_INLINE: Final = """
    CASE WHEN octet_length(leaves) <= $1 THEN octet_length(leaves) ELSE 0 END
    + CASE WHEN octet_length(payloads) <= $2 THEN octet_length(payloads) ELSE 0 END"""
# A block never crosses a multiple of 256 seqs: one range of the primary key per partition.
_RANGE: Final = """
FROM entries WHERE org_id = ${0} AND last_seq >= ${1} AND last_seq <= (${2}::bigint | 255)
    AND first_seq <= ${2} AND anchored_at >= ${3} AND anchored_at < ${4}
ORDER BY last_seq {order}, anchored_at {order} LIMIT ${5}"""


class TagRow(NamedTuple):
    """The key of a block, and the tags of its entries."""

    last_seq: int
    anchored_at: datetime
    first_seq: int
    tags: bytes


class BlockRange(NamedTuple):
    """Entries ``first`` to ``last`` of an org, in an order; ``until`` is excluded."""

    org_id: int
    first: int
    last: int
    descending: bool
    since: datetime | None = None
    until: datetime | None = None

    def key(self) -> tuple[object, ...]:
        """Return the parameters of a statement over the range, of times that Python can hold."""
        since, until = max(self.since or EARLIEST, EARLIEST), min(self.until or LATEST, LATEST)
        return self.org_id, self.first, self.last, since, until


class InlineLimits(NamedTuple):
    """The longest columns of leaves and payloads that a row has with it."""

    leaves: int
    payloads: int


class Slice(NamedTuple):
    """Bytes of a column of a block."""

    last_seq: int
    anchored_at: datetime
    start: int
    size: int


def tags_query(*, descending: bool) -> str:
    """Return SQL for the tags of the blocks in a range: org, first, last, since, until, limit."""
    return f"SELECT last_seq, anchored_at, first_seq, {_TAGS}" + _range(1, descending)


def blocks_query(*, descending: bool) -> str:
    """Return SQL for the blocks in a range, after the inline limits; ``found`` counts all of them.

    The lengths of columns are known without reading them: an answer ends before it is too large.
    """
    order = "DESC" if descending else "ASC"
    return f"""
SELECT {_BLOCK}, found FROM (
    SELECT *, count(*) OVER () AS found,
        sum({_INLINE}) OVER (ORDER BY last_seq {order}, anchored_at {order}) - ({_INLINE}) AS before
    FROM (SELECT * {_range(3, descending)}) AS page
) AS sized WHERE before < {BYTES_AT_ONCE} ORDER BY last_seq {order}, anchored_at {order}"""


def _range(first_parameter: int, descending: bool) -> str:
    numbers = range(first_parameter, first_parameter + 6)
    return _RANGE.format(*numbers, order="DESC" if descending else "ASC")


# LATERAL with LIMIT pins the plan: one primary key probe for each block.
CHOSEN: Final = f"""
SELECT {_BLOCK} FROM unnest($4::bigint[], $5::timestamptz[]) WITH ORDINALITY AS w (seq, at, place)
CROSS JOIN LATERAL (
    SELECT * FROM entries WHERE org_id = $3 AND last_seq = w.seq AND anchored_at = w.at LIMIT 1
) AS block ORDER BY place"""
_SLICES: Final = """
SELECT substring(stored FROM w.start + 1 FOR w.size)
FROM unnest($2::bigint[], $3::timestamptz[], $4::integer[], $5::integer[])
    WITH ORDINALITY AS w (seq, at, start, size, place)
LEFT JOIN LATERAL (
    SELECT {column} AS stored FROM entries
    WHERE org_id = $1 AND last_seq = w.seq AND anchored_at = w.at LIMIT 1
) AS block ON true ORDER BY place"""
SLICES: Final = {column: _SLICES.format(column=column) for column in ("leaves", "payloads")}
# For each group of seqs the blocks that end in it, and the next two, of which one may begin in it.
# LATERAL with LIMIT pins the plan: one range of the primary key for each group.
KEYS: Final = """
SELECT e.last_seq, e.anchored_at, e.first_seq
FROM unnest($2::bigint[], $3::bigint[]) AS w (low, high)
CROSS JOIN LATERAL (
    SELECT last_seq, anchored_at, first_seq FROM entries
    WHERE org_id = $1 AND last_seq >= w.low AND last_seq <= (w.high | 255)
      AND anchored_at >= $4 AND anchored_at < $5 AND anchored_at <= $6
    ORDER BY last_seq, anchored_at LIMIT w.high - w.low + 3
) AS e WHERE e.first_seq <= w.high"""
# For each seq the blocks that may hold it, the next two among them, as for KEYS.
SLICED: Final = sliced("""
    SELECT e.*, w.seq AS wanted FROM unnest($2::bigint[]) AS w (seq)
    CROSS JOIN LATERAL (
        SELECT * FROM entries
        WHERE org_id = $1 AND last_seq >= w.seq AND last_seq <= (w.seq | 255)
          AND anchored_at >= $3 AND anchored_at < $4 AND anchored_at <= $5
        ORDER BY last_seq, anchored_at LIMIT 3
    ) AS e WHERE e.first_seq <= w.seq""")
_NEXT: Final = """
SELECT {edge} FROM entries WHERE org_id = $1 AND last_seq {beyond} $2::bigint ORDER BY last_seq {order} LIMIT 1"""
NEXT_UP: Final = _NEXT.format(edge="greatest(first_seq, $2::bigint + 1)", beyond=">", order="ASC")
NEXT_DOWN: Final = _NEXT.format(edge="last_seq", beyond="<", order="DESC")


async def tag_rows(connection: Connection, part: BlockRange) -> list[TagRow]:
    """Return the tags of the first blocks of a range, in its order. Raises asyncpg's errors."""
    query = tags_query(descending=part.descending)
    return [TagRow(*row) for row in await connection.fetch(query, *part.key(), ROWS_AT_ONCE)]


async def block_rows(
    connection: Connection, part: BlockRange, inline: InlineLimits
) -> tuple[list[BlockRow], bool]:
    """Return the first blocks of a range, in its order, and whether there are more.

    Raises asyncpg's errors.
    """
    query = blocks_query(descending=part.descending)
    rows = await connection.fetch(query, *inline, *part.key(), ROWS_AT_ONCE)
    more = bool(rows) and (rows[0][-1] > len(rows) or len(rows) == ROWS_AT_ONCE)
    return [BlockRow(*row[:-1]) for row in rows], more


async def keys(
    connection: Connection,
    span: BlockRange,
    until: datetime | None,
    groups: Sequence[tuple[int, int]],
) -> list[TagRow]:
    """Return the keys of blocks that hold any of these seqs; a block may be there twice.

    ``span`` bounds the times, as does ``until``, which is included. Raises asyncpg's errors.
    """
    org_id, _, _, since, before = span.key()
    lows, highs = [low for low, _ in groups], [high for _, high in groups]
    rows = await connection.fetch(KEYS, org_id, lows, highs, since, before, until or LATEST)
    return [TagRow(row[0], row[1], row[2], b"") for row in rows]


async def slices_of(
    connection: Connection, span: BlockRange, until: datetime | None, seqs: Sequence[int]
) -> list[EntrySlice]:
    """Return the slices of these entries; one for each block that says that it holds a seq.

    ``span`` bounds the times, as does ``until``, which is included. Raises asyncpg's errors.
    """
    org_id, _, _, since, before = span.key()
    rows = await connection.fetch(SLICED, org_id, seqs, since, before, until or LATEST)
    return [EntrySlice(*row) for row in rows]


async def chosen_rows(
    connection: Connection, org_id: int, blocks: Sequence[TagRow], inline: InlineLimits
) -> list[BlockRow]:
    """Return these blocks, in their order. Raises asyncpg's errors."""
    seqs, times = [row.last_seq for row in blocks], [row.anchored_at for row in blocks]
    rows = await connection.fetch(CHOSEN, *inline, org_id, seqs, times)
    return [BlockRow(*row) for row in rows]


async def slices(
    connection: Connection,
    org_id: int,
    column: Literal["leaves", "payloads"],
    wanted: Sequence[Slice],
) -> list[bytes]:
    """Return these bytes of a column; fewer where it is shorter. Raises asyncpg's errors."""
    if not wanted:
        return []
    rows = await connection.fetch(SLICES[column], org_id, *map(list, zip(*wanted, strict=True)))
    return [row[0] or b"" for row in rows]


async def next_seq(connection: Connection, part: BlockRange) -> int | None:
    """Return the nearest seq beyond a range, in its order, that a block holds, or None."""
    query, edge = (NEXT_DOWN, part.first) if part.descending else (NEXT_UP, part.last)
    seq: int | None = await connection.fetchval(query, part.org_id, edge)
    return seq
