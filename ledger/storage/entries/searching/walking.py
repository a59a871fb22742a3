"""Walks through the blocks of a range, part by part, and selects entries to read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import chain, repeat
from typing import Final, NamedTuple, ParamSpec, TypeVar

from ledger.blocks.layout import BlockDamaged
from ledger.blocks.reading import UnreadableEntries
from ledger.blocks.selecting import BlockRow, ChosenEntries, choose, positions_of
from ledger.blocks.slices import EntrySlice
from ledger.storage.database import Connection
from ledger.storage.entries.searching import block_rows
from ledger.storage.entries.searching.block_rows import (
    BYTES_AT_ONCE,
    ROWS_AT_ONCE,
    BlockRange,
    InlineLimits,
    TagRow,
)

LOOP_BLOCKS: Final = 16
"""Blocks that are looked through on the event loop; more are on another thread."""
ALL: Final = InlineLimits(leaves=128 << 10, payloads=64 << 10)
SCANNED: Final = InlineLimits(leaves=BYTES_AT_ONCE, payloads=0)
# Seqs of the parts: few at first, as a page is often filled by them.
_SCANNED_PARTS: Final = (1 << 9, 1 << 11, 1 << 13)

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Row = TypeVar("_Row", TagRow, BlockRow)


class SlicedEntries(NamedTuple):
    """Entries of one block by position, ascending, and the slices that hold them."""

    row: TagRow
    positions: Sequence[int]
    slices: Sequence[EntrySlice]


Item = ChosenEntries | SlicedEntries | UnreadableEntries


class Step(NamedTuple):
    """Entries to read, in the order of the walk, and the last seq that the walk has covered."""

    items: Sequence[Item]
    covered: int


class RangePart(NamedTuple):
    """The first rows of a part of a range, and the last seq that they cover."""

    range: BlockRange
    rows: Sequence[TagRow] | Sequence[BlockRow]
    covered: int


async def off_loop(
    large: bool,
    function: Callable[_Arguments, _Result],
    *args: _Arguments.args,
    **named: _Arguments.kwargs,
) -> _Result:
    """Call a function, on another thread if its work is large."""
    if large:
        return await asyncio.to_thread(function, *args, **named)
    return function(*args, **named)


async def all_entries(
    connection: Connection, span: BlockRange, parts: Iterable[int], inline: InlineLimits
) -> AsyncIterator[Step]:
    """Yield all entries of a range; ``parts``: the number of seqs of each part.

    Raises asyncpg's errors.
    """
    fetch = partial(block_rows.block_rows, connection, inline=inline)
    async for part in parts_of(connection, span, parts, fetch):
        rows = [(row, None) for row in part.rows if isinstance(row, BlockRow)]
        items = await off_loop(len(rows) > LOOP_BLOCKS, chosen, part.range, rows)
        yield Step(items, part.covered)


def shown(connection: Connection, span: BlockRange, limit: int) -> AsyncIterator[Step]:
    """Yield all entries of a range, of which the caller takes ``limit``."""
    return all_entries(connection, span, repeat(limit), ALL)


def scanned(connection: Connection, span: BlockRange) -> AsyncIterator[Step]:
    """Yield all entries of a range, whose leaves are to be searched."""
    return all_entries(connection, span, chain(_SCANNED_PARTS, repeat(1 << 15)), SCANNED)


async def tag_rows(connection: Connection, part: BlockRange) -> tuple[list[TagRow], bool]:
    """Return the first tags of a range and whether there are more. Raises asyncpg's errors."""
    rows = await block_rows.tag_rows(connection, part)
    return rows, len(rows) == ROWS_AT_ONCE


async def parts_of(
    connection: Connection,
    span: BlockRange,
    sizes: Iterable[int],
    fetch: Callable[[BlockRange], Awaitable[tuple[list[_Row], bool]]],
) -> AsyncIterator[RangePart]:
    """Yield the blocks of a range in parts of so many seqs; where none are stored, skip ahead."""
    at = span.last if span.descending else span.first
    for size in sizes:
        if not span.first <= at <= span.last:
            return
        part = _part(span, at, size)
        rows, more = await fetch(part)
        covered = part.first if span.descending else part.last
        if more:
            covered = rows[-1].first_seq if span.descending else rows[-1].last_seq
        elif not rows:
            covered = await _before_next(connection, part, span)
        covered = min(max(covered, span.first), span.last)
        yield RangePart(part, rows, covered)
        at = covered - 1 if span.descending else covered + 1


def _part(span: BlockRange, at: int, size: int) -> BlockRange:
    if span.descending:
        return span._replace(first=max(span.first, at - size + 1), last=at)
    return span._replace(first=at, last=min(span.last, at + size - 1))


async def _before_next(connection: Connection, part: BlockRange, span: BlockRange) -> int:
    """Return the last seq before the next stored block, or the end of the range."""
    following = await block_rows.next_seq(connection, part)
    if span.descending:
        return span.first if following is None else following + 1
    return span.last if following is None else following - 1


def chosen(
    part: BlockRange,
    rows: Sequence[tuple[BlockRow | UnreadableEntries, Sequence[int] | None]],
) -> list[Item]:
    """Return what to read of each block; None: all its entries that are in the part."""
    items: list[Item] = []
    for row, positions in rows:
        if isinstance(row, UnreadableEntries):
            items.append(row)
            continue
        try:
            first, last = row.first_seq, row.last_seq
            within = positions_of(first, last, row.tags, part.first, part.last)
            items.append(choose(row, within if positions is None else positions))
        except BlockDamaged as error:
            items.append(UnreadableEntries(row.first_seq, row.last_seq, str(error)))
    return items
