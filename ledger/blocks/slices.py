"""Reads one entry from slices of its block: the bytes that it needs if the frames are regular.

Frames are regular where each but the last has :data:`FRAME_ENTRIES` entries. Then the frame of an
entry follows from its position, and the database can cut the slices without sending all of
``ends``. This short cut decides nothing: an entry that does not check out here is read from its
block, which says what is wrong with it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from blake3 import blake3

from ledger.blocks.frames import content_of
from ledger.blocks.layout import FRAME_BYTES, FRAME_ENTRIES, BlockDamaged, Frame
from ledger.blocks.reading import previous_hash_of, tags_at
from ledger.chain import StoredEntry
from ledger.entry import HASH_BYTES

END_BYTES: Final = 4


class EntrySlice(NamedTuple):
    """The parts of a block that the entry ``seq`` needs; empty where the frames can't be regular.

    ``tags``: those of the entry. Ends are 32-bit numbers, the first of which belongs to the frame
    before: ``record_ends`` of the records of its frame and of the next frame, ``payload_ends`` of
    the payloads of its frame, ``stored_records`` and ``stored_payloads`` of these frames.
    ``leaves``: the frame of its record, and the next one where that holds the next record.
    """

    seq: int
    last_seq: int
    anchored_at: datetime
    first_seq: int
    last_hash: bytes
    tags: bytes
    record_ends: bytes
    payload_ends: bytes
    stored_records: bytes
    stored_payloads: bytes
    leaves: bytes
    payloads: bytes


class _Frames(NamedTuple):
    """Some bytes of a column from the start of a frame on: raw and stored ends, and the bytes."""

    ends: Sequence[int]
    stored_ends: Sequence[int]
    data: bytes

    def content(self, number: int, first: int, after: int) -> bytes:
        """Return the content of a frame, which has these pieces. Raises BlockDamaged."""
        ends = self.ends[first : after + 1]
        start, stored_start = ends[0], self.stored_ends[number]
        size, raw_size = self.stored_ends[number + 1] - stored_start, ends[-1] - start
        if [*ends] != sorted(ends) or raw_size > FRAME_BYTES:
            raise BlockDamaged("the ends of these entries are not those of a regular frame")
        begin = stored_start - self.stored_ends[0]
        frame = Frame(first, after - 1, stored_start, size, start, raw_size)
        return content_of(self.data[begin : begin + size], frame)

    def piece(self, content: bytes, first: int, at: int) -> bytes:
        """Return a piece of the frame whose first piece and content are these."""
        start = self.ends[first]
        return content[self.ends[at] - start : self.ends[at + 1] - start]


def entry_in(org_id: int, part: EntrySlice) -> StoredEntry | None:
    """Return the entry of a slice; None unless its leaf names its seq and its payload's digest.

    Inflates at most three times FRAME_BYTES.
    """
    try:
        return _read(org_id, part)
    except (BlockDamaged, IndexError, struct.error):
        return None


def _read(org_id: int, part: EntrySlice) -> StoredEntry | None:
    position = part.seq - part.first_seq
    at = position % FRAME_ENTRIES
    first = position - at
    left = part.last_seq - part.first_seq + 1 - first
    size = min(FRAME_ENTRIES, left)
    payloads = _frames(part.payload_ends, part.stored_payloads, part.payloads, first)
    payload = payloads.piece(payloads.content(0, 0, size), 0, at)
    records = _frames(part.record_ends, part.stored_records, part.leaves, first)
    content = records.content(0, 0, size)
    record = records.piece(content, 0, at)
    leaf = record[HASH_BYTES:]
    if not _names(leaf, part.seq, payload):
        return None
    if at + 1 == left:
        link = part.last_hash
    elif at + 1 < size:
        link = previous_hash_of(records.piece(content, 0, at + 1)[HASH_BYTES:])
    else:
        content = records.content(1, size, min(2 * size, left))
        link = previous_hash_of(records.piece(content, size, size)[HASH_BYTES:])
    if len(link) != HASH_BYTES:
        return None
    return StoredEntry(
        org_id, part.seq, part.anchored_at, *tags_at(part.tags, 0), link,
        record[:HASH_BYTES], leaf, payload,
    )  # fmt: skip


def _frames(ends: bytes, stored_ends: bytes, data: bytes, first: int) -> _Frames:
    return _Frames(_numbers(ends, first), _numbers(stored_ends, first), data)


def _numbers(data: bytes, first: int) -> Sequence[int]:
    """Return 32-bit numbers; where no entry is before ``first``, the first of them is 0."""
    if not first:
        data = bytes(-len(data) % END_BYTES) + data  # the version alone is before them
    numbers = struct.unpack(f">{len(data) // END_BYTES}I", data)
    return numbers if first else (0, *numbers[1:])


def _names(leaf: bytes, seq: int, payload: bytes) -> bool:
    """Return whether a leaf names a seq and the digest of a payload."""
    digest = blake3(payload).hexdigest().encode()
    return b'"seq":%d,' % seq in leaf and b'"blake3":"%s"' % digest in leaf
