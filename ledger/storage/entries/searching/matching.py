"""Entries of a range that match a filter, batch by batch, in their order.

Actor and subject are found by the tags alone, which only select; then the frames of the selected
entries are read, and their leaves decide. Other filters read all leaves. Nothing is skipped: a
batch says which of its entries can't be read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ledger.blocks.reading import UnreadableEntries
from ledger.blocks.selecting import ChosenEntries, MatchedRecord, matching
from ledger.blocks.slices import entry_in
from ledger.chain import StoredEntry
from ledger.storage.database import Connection
from ledger.storage.entries.blocks import LOOP_BYTES
from ledger.storage.entries.indexing.lookup import TagLookup, TagPair
from ledger.storage.entries.searching import walking
from ledger.storage.entries.searching.block_rows import BYTES_AT_ONCE, BlockRange, TagRow
from ledger.storage.entries.searching.stored_frames import fetch_frames
from ledger.storage.entries.searching.tagged import blocks_of, tagged_entries
from ledger.storage.entries.searching.walking import Item, SlicedEntries, off_loop

SCANNED_BYTES: Final = 64 << 20
"""Raw bytes of records that one search reads; it ends early after more."""

LOOP_SLICES_BYTES: Final = 32 << 10
"""Stored bytes of slices that are read on the event loop; more are read on another thread."""


class LeafFilter(NamedTuple):
    """Short tags of actor and subject (0: any), and bytes that a leaf must contain.

    Tags only select: the patterns must name actor and subject as well.
    """

    actor_tag: int
    subject_tag: int
    patterns: Sequence[bytes]


Match = MatchedRecord | StoredEntry
"""A matching record, or the whole entry where it was read already."""


class FoundMatches(NamedTuple):
    """What matches, and the selected entries that can't be read."""

    records: list[Match]
    unreadable: list[UnreadableEntries]


class MatchBatch(NamedTuple):
    """What matches, in its order, what can't be read, and the last seq searched."""

    records: list[Match]
    unreadable: list[UnreadableEntries]
    searched: int


async def batches(
    connection: Connection,
    span: BlockRange,
    where: LeafFilter,
    limit: int,
    lookup: TagLookup | None = None,
) -> AsyncIterator[MatchBatch]:
    """Yield the matching entries of a range in batches; ``limit``: how many the caller takes.

    ``lookup`` finds actor and subject in the search index. Ends before the end of the range after SCANNED_BYTES. Raises asyncpg's errors.
    """
    scanned = 0
    async for items, covered in _steps(connection, span, where, limit, lookup):
        for group, is_last in _groups(items):
            found = await _read(connection, span, group, where.patterns)
            yield MatchBatch(*found, covered if is_last else _end(group[-1], span))
            scanned += sum(map(_raw_bytes, group))
            if scanned > SCANNED_BYTES:
                return


def _steps(
    connection: Connection,
    span: BlockRange,
    where: LeafFilter,
    limit: int,
    lookup: TagLookup | None,
) -> AsyncIterator[walking.Step]:
    if where.actor_tag or where.subject_tag:
        tags = TagPair(where.actor_tag, where.subject_tag)
        return tagged_entries(connection, span, tags, limit, lookup)
    if where.patterns:
        return walking.scanned(connection, span)
    return walking.shown(connection, span, limit)


def _groups(items: Sequence[Item]) -> Iterable[tuple[Sequence[Item], bool]]:
    """Yield the items in groups with bounded raw bytes, and whether a group is the last."""
    start = size = 0
    for number, item in enumerate(items):
        size += _raw_bytes(item)
        if size > BYTES_AT_ONCE and number > start:
            yield items[start:number], False
            start, size = number, _raw_bytes(item)
    yield items[start:], True


def _raw_bytes(item: Item) -> int:
    if isinstance(item, UnreadableEntries):
        return 0
    if isinstance(item, SlicedEntries):
        return sum(len(one.leaves) + len(one.payloads) for one in item.slices)
    return sum(frame.raw_size for frame in item.frames)


def _end(item: Item, span: BlockRange) -> int:
    if isinstance(item, UnreadableEntries):
        end = item.first_seq if span.descending else item.last_seq
    else:
        end = item.row.first_seq + item.positions[0 if span.descending else -1]
    return min(max(end, span.first), span.last)


async def _read(
    connection: Connection, span: BlockRange, group: Sequence[Item], patterns: Sequence[bytes]
) -> FoundMatches:
    found = FoundMatches([], [item for item in group if isinstance(item, UnreadableEntries)])
    items = [item for item in group if isinstance(item, ChosenEntries)]
    sliced = [item for item in group if isinstance(item, SlicedEntries)]
    if sliced:
        large = sum(map(_raw_bytes, sliced)) > LOOP_SLICES_BYTES
        matched, others = await off_loop(large, _in_slices, span.org_id, sliced, patterns)
        found.records.extend(matched)
        for some in await blocks_of(connection, span, others):
            items += [item for item in some if isinstance(item, ChosenEntries)]
            found.unreadable.extend(item for item in some if isinstance(item, UnreadableEntries))
    if items:
        await _read_blocks(connection, span, items, patterns, found)
    found.records.sort(key=_place, reverse=span.descending)
    return found


def _in_slices(
    org_id: int, sliced: Sequence[SlicedEntries], patterns: Sequence[bytes]
) -> tuple[list[StoredEntry], list[tuple[TagRow, Sequence[int]]]]:
    """Return the matching entries, and those that must be read from their blocks."""
    matched: list[StoredEntry] = []
    others: list[tuple[TagRow, Sequence[int]]] = []
    for row, positions, slices in sliced:
        entries = [entry_in(org_id, one) for one in slices]
        matched += [
            entry for entry in entries
            if entry is not None and all(pattern in entry.leaf for pattern in patterns)
        ]  # fmt: skip
        rest = [at for at, entry in zip(positions, entries, strict=True) if entry is None]
        if rest:
            others.append((row, rest))
    return matched, others


async def _read_blocks(
    connection: Connection,
    span: BlockRange,
    chosen: Sequence[ChosenEntries],
    patterns: Sequence[bytes],
    found: FoundMatches,
) -> None:
    """Add what matches in these blocks."""
    frames = [(item.row, frame) for item in chosen for frame in item.frames]
    stored = iter(await fetch_frames(connection, span.org_id, "leaves", frames))
    parts = [(item, [next(stored) for _ in item.frames]) for item in chosen]
    large = sum(frame.raw_size for _, frame in frames) > LOOP_BYTES
    await off_loop(large, _add_matching, parts, patterns, found)


def _add_matching(
    parts: Sequence[tuple[ChosenEntries, Sequence[bytes]]],
    patterns: Sequence[bytes],
    found: FoundMatches,
) -> None:
    for chosen, stored in parts:
        records, unreadable = matching(chosen, stored, patterns)
        found.records.extend(records)
        found.unreadable.extend(unreadable)


def _place(record: Match) -> tuple[int, datetime]:
    return record.seq, record.anchored_at
