"""Frames of chosen entries, fetched, and the entries that they complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Final, Literal

from ledger.blocks.frames import content_of
from ledger.blocks.layout import BlockDamaged, Frame
from ledger.blocks.reading import UnreadableEntries
from ledger.blocks.selecting import BlockRow, MatchedRecord, piece_bounds
from ledger.chain import StoredEntry
from ledger.storage.database import Connection
from ledger.storage.entries.blocks import LOOP_BYTES
from ledger.storage.entries.searching import block_rows
from ledger.storage.entries.searching.block_rows import Slice
from ledger.storage.entries.searching.walking import off_loop

RUN_BYTES: Final = 8 << 20
"""Raw bytes of payload frames that are read at once; one frame may exceed them."""

_Place = tuple[int, datetime, Frame]
"""The key of a block, and the frame or piece of a frame that has a payload."""


async def fetch_frames(
    connection: Connection,
    org_id: int,
    column: Literal["leaves", "payloads"],
    frames: Sequence[tuple[BlockRow, Frame]],
) -> list[bytes]:
    """Return the stored bytes of these frames, from their rows or else from the database.

    Bytes may be missing at the end of a frame. Raises asyncpg's errors.
    """
    wholes: list[bytes | None] = [getattr(row, column) for row, _ in frames]
    wanted = [
        Slice(row.last_seq, row.anchored_at, frame.start, frame.size)
        for (row, frame), whole in zip(frames, wholes, strict=True)
        if whole is None
    ]
    fetched = iter(await block_rows.slices(connection, org_id, column, wanted))
    return [
        next(fetched) if whole is None else whole[frame.start : frame.start + frame.size]
        for (_, frame), whole in zip(frames, wholes, strict=True)
    ]


async def completed(
    connection: Connection, org_id: int, records: Sequence[MatchedRecord | StoredEntry]
) -> tuple[list[StoredEntry], UnreadableEntries | None]:
    """Return the entries of these records, with their payloads, in their order.

    They end before the first entry whose payload can't be read, which the second value names.
    Raises asyncpg's errors.
    """
    entries: list[StoredEntry] = []
    for run in _runs_between(records, entries):
        frames = {_place(record): (record.row, _needed(record)) for record in run}
        stored = await fetch_frames(connection, org_id, "payloads", [*frames.values()])
        known = dict(zip(frames, stored, strict=True))
        large = sum(frame.raw_size for _, frame in frames.values()) > LOOP_BYTES
        unreadable = await off_loop(large, _complete, org_id, run, known, entries)
        if unreadable is not None:
            return entries, unreadable
    return entries, None


def _runs_between(
    records: Sequence[MatchedRecord | StoredEntry], entries: list[StoredEntry]
) -> Iterator[Sequence[MatchedRecord]]:
    """Yield the records to complete, in runs; add entries before, between and after to the list."""
    for _, some in groupby(records, lambda record: isinstance(record, StoredEntry)):
        together = list(some)
        entries += [one for one in together if isinstance(one, StoredEntry)]
        yield from _runs([one for one in together if isinstance(one, MatchedRecord)])


def _runs(records: Sequence[MatchedRecord]) -> Iterator[Sequence[MatchedRecord]]:
    start = size = 0
    previous: _Place | None = None
    for number, record in enumerate(records):
        place = _place(record)
        grown = size if place == previous else size + place[2].raw_size
        if grown > RUN_BYTES and number > start:
            yield records[start:number]
            start, grown = number, place[2].raw_size
        size, previous = grown, place
    if records:
        yield records[start:]


def _place(record: MatchedRecord) -> _Place:
    return record.row.last_seq, record.row.anchored_at, _needed(record)


def _needed(record: MatchedRecord) -> Frame:
    """Return the frame of a payload, cut to the payload itself where the frame is stored raw."""
    frame = record.payload_frame
    if frame.size < frame.raw_size:
        return frame
    start, end = piece_bounds(record.layout.payload_ends, record.position)
    at, size = frame.start + start - frame.raw_start, end - start
    return Frame(record.position, record.position, at, size, start, size)


def _complete(
    org_id: int,
    records: Sequence[MatchedRecord],
    stored: Mapping[_Place, bytes],
    entries: list[StoredEntry],
) -> UnreadableEntries | None:
    """Add entries to the list; return those of the first frame that can't be read."""
    contents: dict[_Place, bytes] = {}
    for record in records:
        place = _place(record)
        frame = place[2]
        if place not in contents:
            try:
                contents[place] = content_of(stored[place], frame)
            except BlockDamaged as error:
                first = record.row.first_seq
                return UnreadableEntries(first + frame.first, first + frame.last, str(error))
        start, end = piece_bounds(record.layout.payload_ends, record.position)
        payload = contents[place][start - frame.raw_start : end - frame.raw_start]
        entries.append(record.entry(org_id, payload))
    return None
