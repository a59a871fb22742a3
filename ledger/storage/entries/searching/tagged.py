"""Walks through the entries of a range that have tags: by the search index, else by their blocks.

The tags of blocks are read where the index has no row, or a wrong one, and after its last run. An
index row gives seqs, whose blocks are found by key; where that is not exactly one block for each,
the tags of all blocks around decide.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from itertools import chain, repeat
from typing import Final, NamedTuple

from ledger.blocks.layout import BLOCK_ENTRIES, BlockDamaged
from ledger.blocks.reading import UnreadableEntries
from ledger.blocks.selecting import positions_of, tagged
from ledger.storage.database import Connection
from ledger.storage.entries.indexing.lookup import IndexedPart, TagLookup, TagPair
from ledger.storage.entries.searching import block_rows
from ledger.storage.entries.searching.block_rows import (
    ROWS_AT_ONCE,
    BlockRange,
    InlineLimits,
    TagRow,
)
from ledger.storage.entries.searching.named import SelectedEntries, named_entries
from ledger.storage.entries.searching.walking import (
    LOOP_BLOCKS,
    Item,
    SlicedEntries,
    Step,
    chosen,
    off_loop,
    parts_of,
    tag_rows,
)

SCANNED_BLOCKS: Final = 64 * ROWS_AT_ONCE
"""Blocks whose tags one search reads."""
BLOCKS_AT_ONCE: Final = 128
"""Blocks with selected entries that are read at once."""
SEQS_AT_ONCE: Final = 256
"""Entries of the index whose blocks are found at once, at most."""
LEAST_SEQS: Final = 16
SELECTED: Final = InlineLimits(leaves=8 << 10, payloads=8 << 10)
# Seqs of the parts: few at first, as a page is often filled by them.
_PARTS: Final = (1 << 13, 1 << 16, 1 << 18)


class _Selected(NamedTuple):
    """Selected entries in the order of the walk, the last seq covered, and the blocks read."""

    selections: Sequence[SelectedEntries]
    covered: int
    blocks: int


async def tagged_entries(
    connection: Connection,
    span: BlockRange,
    tags: TagPair,
    limit: int,
    lookup: TagLookup | None = None,
) -> AsyncIterator[Step]:
    """Yield the entries of a range with these tags, of which the caller takes about ``limit``.

    ``lookup`` looks in the search index. Ends before the end of the range after SCANNED_BLOCKS.
    Raises asyncpg's errors.
    """
    waiting: list[SelectedEntries] = []
    blocks, covered = 0, _before(span)
    async for found in _selected(connection, span, tags, limit, lookup):
        waiting += found.selections
        while count := _enough(waiting, limit):
            items = await _fetched(connection, span, waiting[:count])
            yield Step(items, _end(waiting[count - 1], span))
            del waiting[:count]
        blocks, covered = blocks + found.blocks, found.covered
        if blocks >= SCANNED_BLOCKS:
            break
    yield Step(await _fetched(connection, span, waiting), covered)


async def _selected(
    connection: Connection,
    span: BlockRange,
    tags: TagPair,
    limit: int,
    lookup: TagLookup | None,
) -> AsyncIterator[_Selected]:
    if lookup is None:
        async for found in _by_blocks(connection, span, tags):
            yield found
        return
    async for part in lookup.parts(span):
        if part.offsets is None:
            async for found in _by_blocks(connection, part.range, tags):
                yield found
        else:
            async for found in _by_index(connection, part, part.offsets, tags, limit):
                yield found
            yield _Selected((), _last(part.range), 0)


async def _by_blocks(
    connection: Connection, span: BlockRange, tags: TagPair
) -> AsyncIterator[_Selected]:
    """Select by the tags of all blocks of a range."""
    sizes = chain(_PARTS, repeat(_PARTS[-1]))
    async for part in parts_of(connection, span, sizes, partial(tag_rows, connection)):
        rows = [row for row in part.rows if isinstance(row, TagRow)]
        found = await off_loop(len(rows) > LOOP_BLOCKS, _tagged, part.range, rows, tags)
        yield _Selected(found, part.covered, len(rows))


async def _by_index(
    connection: Connection, part: IndexedPart, offsets: Sequence[int], tags: TagPair, limit: int
) -> AsyncIterator[_Selected]:
    """Select the entries at these offsets, which the index names; about ``limit`` are taken."""
    descending = part.range.descending
    size = max(min(limit, SEQS_AT_ONCE), LEAST_SEQS)
    for at in range(0, len(offsets), size):
        piece = offsets[at : at + size]
        if descending:
            piece = offsets[max(len(offsets) - at - size, 0) : len(offsets) - at]
        some = [part.start + offset for offset in piece]
        found = await named_entries(connection, part, some)
        if found is not None:
            selections = found[::-1] if descending else found
            yield _Selected(selections, some[0 if descending else -1], 0)
            continue
        for window in _windows(part.range, some):
            async for scanned in _by_blocks(connection, window, tags):
                yield scanned


def _windows(span: BlockRange, seqs: Sequence[int]) -> Iterable[BlockRange]:
    """Yield the ranges from the first of these seqs to the last, in the order of the range.

    Each is inside one window of blocks. Seqs of the piece before, or after, are in none of them.
    """
    windows = sorted({seq // BLOCK_ENTRIES for seq in seqs}, reverse=span.descending)
    for window in windows:
        first = window * BLOCK_ENTRIES
        yield span._replace(
            first=max(seqs[0], first), last=min(seqs[-1], first + BLOCK_ENTRIES - 1)
        )


def _tagged(part: BlockRange, rows: Sequence[TagRow], tags: TagPair) -> list[SelectedEntries]:
    found: list[SelectedEntries] = []
    for row in rows:
        try:
            within = positions_of(row.first_seq, row.last_seq, row.tags, part.first, part.last)
        except BlockDamaged as error:
            what = UnreadableEntries(row.first_seq, row.last_seq, str(error))
            found.append(SelectedEntries(what, ()))
        else:
            if positions := tagged(row.tags, *tags, within):
                found.append(SelectedEntries(row, positions))
    return found


def _enough(waiting: Sequence[SelectedEntries], limit: int) -> int:
    """Return how many of these blocks are read at once; 0: more are to be found before."""
    entries = 0
    for number, selection in enumerate(waiting, 1):
        entries += len(selection.positions)
        if number == BLOCKS_AT_ONCE or entries >= limit:
            return number
    return 0


def _before(span: BlockRange) -> int:
    return span.last + 1 if span.descending else span.first - 1


def _last(span: BlockRange) -> int:
    return span.first if span.descending else span.last


def _end(selection: SelectedEntries, span: BlockRange) -> int:
    """Return the last selected seq of a block, in the order of the range."""
    row, positions, _ = selection
    if isinstance(row, UnreadableEntries):
        end = row.first_seq if span.descending else row.last_seq
    else:
        end = row.first_seq + positions[0 if span.descending else -1]
    return min(max(end, span.first), span.last)


async def _fetched(
    connection: Connection, part: BlockRange, group: Sequence[SelectedEntries]
) -> list[Item]:
    """Return the entries to read of these blocks, in their order."""
    keys = [
        (row, positions)
        for row, positions, slices in group
        if isinstance(row, TagRow) and not slices
    ]
    read = await blocks_of(connection, part, keys)
    items: list[Item] = []
    for row, positions, slices in group:
        if isinstance(row, UnreadableEntries):
            items.append(row)
        elif slices:
            items.append(SlicedEntries(row, positions, slices))
        else:
            items += read.pop(0)
    return items


async def blocks_of(
    connection: Connection, part: BlockRange, selected: Sequence[tuple[TagRow, Sequence[int]]]
) -> list[list[Item]]:
    """Return what to read of each block, for these positions; nothing of a block that is missing."""
    keys = list(dict.fromkeys(row for row, _ in selected))
    if not keys:
        return []
    fetched = {
        (row.last_seq, row.anchored_at): row
        for row in await block_rows.chosen_rows(connection, part.org_id, keys, SELECTED)
    }
    rows = [
        [(fetched[row[:2]], positions)] if row[:2] in fetched else [] for row, positions in selected
    ]
    return await off_loop(
        len(keys) > LOOP_BLOCKS, lambda: [chosen(part, of_block) for of_block in rows]
    )
