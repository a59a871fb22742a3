"""Walks through the blocks of a range, part by part, and selects entries to read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import chain, repeat
from typing import Final, NamedTuple, ParamSpec, TypeVar

from ledger.blocks.layout import BlockDamaged
from ledger.blocks.reading import UnreadableEntries
from ledger.blocks.selecting import BlockRow, ChosenEntries, choose, positions_of, tagged
from ledger.storage.database import Connection
from ledger.storage.entries.searching import block_rows
from ledger.storage.entries.searching.block_rows import (
    BYTES_AT_ONCE,
    ROWS_AT_ONCE,
    BlockRange,
    InlineLimits,
    TagRow,
)

SCANNED_BLOCKS: Final = 64 * ROWS_AT_ONCE
"""Blocks whose tags one search reads."""
BLOCKS_AT_ONCE: Final = 128
"""Blocks with selected entries that are read at once."""
LOOP_BLOCKS: Final = 16
"""Blocks that are looked through on the event loop; more are on another thread."""
ALL: Final = InlineLimits(leaves=128 << 10, payloads=64 << 10)
SCANNED: Final = InlineLimits(leaves=BYTES_AT_ONCE, payloads=0)
SELECTED: Final = InlineLimits(leaves=8 << 10, payloads=8 << 10)
# Seqs of the parts: few at first, as a page is often filled by them.
_SCANNED_PARTS: Final = (1 << 9, 1 << 11, 1 << 13)
_TAGGED_PARTS: Final = (1 << 13, 1 << 16)

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Row = TypeVar("_Row", TagRow, BlockRow)
Item = ChosenEntries | UnreadableEntries


class Step(NamedTuple):
    """Entries to read, in the order of the walk, and the last seq that the walk has covered."""

    items: Sequence[Item]
    covered: int


class _Part(NamedTuple):
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
    async for part in _parts(connection, span, parts, fetch):
        rows = [(row, None) for row in part.rows if isinstance(row, BlockRow)]
        items = await off_loop(len(rows) > LOOP_BLOCKS, _chosen, part.range, rows)
        yield Step(items, part.covered)


def shown(connection: Connection, span: BlockRange, limit: int) -> AsyncIterator[Step]:
    """Yield all entries of a range, of which the caller takes ``limit``."""
    return all_entries(connection, span, repeat(limit), ALL)


def scanned(connection: Connection, span: BlockRange) -> AsyncIterator[Step]:
    """Yield all entries of a range, whose leaves are to be searched."""
    return all_entries(connection, span, chain(_SCANNED_PARTS, repeat(1 << 15)), SCANNED)


async def tagged_entries(
    connection: Connection, span: BlockRange, actor_tag: int, subject_tag: int, limit: int
) -> AsyncIterator[Step]:
    """Yield the entries of a range with these tags, of which the caller takes about ``limit``.

    Ends before the end of the range after SCANNED_BLOCKS. Raises asyncpg's errors.
    """
    parts = chain(_TAGGED_PARTS, repeat(1 << 18))
    waiting: list[_Selection] = []
    blocks, covered = 0, _before(span)
    async for part in _parts(connection, span, parts, partial(_tag_rows, connection)):
        rows = [row for row in part.rows if isinstance(row, TagRow)]
        large = len(rows) > LOOP_BLOCKS
        waiting += await off_loop(large, _tagged, part.range, rows, actor_tag, subject_tag)
        while count := _enough(waiting, limit):
            items = await _fetched(connection, span, waiting[:count])
            yield Step(items, _end(waiting[count - 1], span))
            del waiting[:count]
        blocks, covered = blocks + len(rows), part.covered
        if blocks >= SCANNED_BLOCKS:
            break
    yield Step(await _fetched(connection, span, waiting), covered)


async def _tag_rows(connection: Connection, part: BlockRange) -> tuple[list[TagRow], bool]:
    rows = await block_rows.tag_rows(connection, part)
    return rows, len(rows) == ROWS_AT_ONCE


async def _parts(
    connection: Connection,
    span: BlockRange,
    sizes: Iterable[int],
    fetch: Callable[[BlockRange], Awaitable[tuple[list[_Row], bool]]],
) -> AsyncIterator[_Part]:
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
        yield _Part(part, rows, covered)
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


_Selection = tuple[TagRow | UnreadableEntries, Sequence[int]]
"""A block and the positions of its selected entries, or a block that can't be read."""


def _tagged(
    part: BlockRange, rows: Sequence[TagRow], actor_tag: int, subject_tag: int
) -> list[_Selection]:
    found: list[_Selection] = []
    for row in rows:
        try:
            within = positions_of(row.first_seq, row.last_seq, row.tags, part.first, part.last)
        except BlockDamaged as error:
            found.append((UnreadableEntries(row.first_seq, row.last_seq, str(error)), ()))
        else:
            if positions := tagged(row.tags, actor_tag, subject_tag, within):
                found.append((row, positions))
    return found


def _enough(waiting: Sequence[_Selection], limit: int) -> int:
    """Return how many of these blocks are read at once; 0: more are to be found before."""
    entries = 0
    for number, (_, positions) in enumerate(waiting, 1):
        entries += len(positions)
        if number == BLOCKS_AT_ONCE or entries >= limit:
            return number
    return 0


def _before(span: BlockRange) -> int:
    return span.last + 1 if span.descending else span.first - 1


def _end(selection: _Selection, span: BlockRange) -> int:
    """Return the last selected seq of a block, in the order of the range."""
    row, positions = selection
    if isinstance(row, UnreadableEntries):
        end = row.first_seq if span.descending else row.last_seq
    else:
        end = row.first_seq + positions[0 if span.descending else -1]
    return min(max(end, span.first), span.last)


async def _fetched(
    connection: Connection, part: BlockRange, group: Sequence[_Selection]
) -> list[Item]:
    """Return the entries to read of these blocks, in their order."""
    keys = [row for row, _ in group if isinstance(row, TagRow)]
    fetched = {
        (row.last_seq, row.anchored_at): row
        for row in await block_rows.chosen_rows(connection, part.org_id, keys, SELECTED)
    }
    selected = [
        (row if isinstance(row, UnreadableEntries) else fetched[row[:2]], positions)
        for row, positions in group
        if isinstance(row, UnreadableEntries) or row[:2] in fetched
    ]
    return await off_loop(len(keys) > LOOP_BLOCKS, _chosen, part, selected)


def _chosen(
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
