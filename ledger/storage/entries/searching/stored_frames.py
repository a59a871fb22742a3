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
_Placed = tuple[MatchedRecord, _Place]


async def fetch_frames(
    connection: Connection,
    org_id: int,
    column: Literal["leaves", "payloads"],
    frames: Sequence[tuple[BlockRow, Frame]],
) -> list[bytes]:
    """Return the stored bytes of these frames, from their rows or else from the database.

    Frames that lie side by side in a block are fetched together. Bytes may be missing at the end of
    a frame. Raises asyncpg's errors.
    """
    wanted: list[Slice] = []
    found: list[
        bytes | tuple[int, int]
    ] = []  # or the slice, and the place of the frame in its column
    for row, frame in frames:
        whole: bytes | None = getattr(row, column)
        if whole is not None:
            found.append(whole[frame.start : frame.start + frame.size])
            continue
        _widen(wanted, row, frame)
        found.append((len(wanted) - 1, frame.start))
    fetched = await block_rows.slices(connection, org_id, column, wanted)
    return [
        one if isinstance(one, bytes) else _cut(one, frame.size, wanted, fetched)
        for one, (_, frame) in zip(found, frames, strict=True)
    ]


def _widen(wanted: list[Slice], row: BlockRow, frame: Frame) -> None:
    """Widen the last slice by a frame before or behind it in its block, or else add a slice."""
    if wanted:
        last = wanted[-1]
        if last.last_seq == row.last_seq and last.anchored_at == row.anchored_at:
            if frame.start == last.start + last.size:
                wanted[-1] = last._replace(size=last.size + frame.size)
                return
            if frame.start + frame.size == last.start:
                wanted[-1] = last._replace(start=frame.start, size=last.size + frame.size)
                return
    wanted.append(Slice(row.last_seq, row.anchored_at, frame.start, frame.size))


def _cut(place: tuple[int, int], size: int, wanted: list[Slice], fetched: list[bytes]) -> bytes:
    number, at = place
    start = at - wanted[number].start
    return fetched[number][start : start + size]


async def completed(
    connection: Connection, org_id: int, records: Sequence[MatchedRecord | StoredEntry]
) -> tuple[list[StoredEntry], UnreadableEntries | None]:
    """Return the entries of these records, with their payloads, in their order.

    They end before the first entry whose payload can't be read, which the second value names.
    Raises asyncpg's errors.
    """
    entries: list[StoredEntry] = []
    for run in _runs_between(records, entries):
        frames = {place: (record.row, place[2]) for record, place in run}
        stored = await fetch_frames(connection, org_id, "payloads", [*frames.values()])
        known = dict(zip(frames, stored, strict=True))
        large = sum(frame.raw_size for _, frame in frames.values()) > LOOP_BYTES
        unreadable = await off_loop(large, _complete, org_id, run, known, entries)
        if unreadable is not None:
            return entries, unreadable
    return entries, None


def _runs_between(
    records: Sequence[MatchedRecord | StoredEntry], entries: list[StoredEntry]
) -> Iterator[Sequence[_Placed]]:
    """Yield the records to complete, in runs; add entries before, between and after to the list."""
    for _, some in groupby(records, lambda record: isinstance(record, StoredEntry)):
        together = list(some)
        entries += [one for one in together if isinstance(one, StoredEntry)]
        yield from _runs([(one, _place(one)) for one in together if isinstance(one, MatchedRecord)])


def _runs(records: Sequence[_Placed]) -> Iterator[Sequence[_Placed]]:
    start = size = 0
    previous: _Place | None = None
    for number, (_, place) in enumerate(records):
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
    records: Sequence[_Placed],
    stored: Mapping[_Place, bytes],
    entries: list[StoredEntry],
) -> UnreadableEntries | None:
    """Add entries to the list; return those of the first frame that can't be read."""
    contents: dict[_Place, bytes] = {}
    for record, place in records:
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
