"""Reads the entries of a block, as far as they can be read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from ledger.blocks.block import TAG_BYTES, Block
from ledger.blocks.frames import content_of
from ledger.blocks.layout import BlockDamaged, Frame
from ledger.chain import StoredEntry
from ledger.entry import HASH_BYTES, entry_hash

_LINK: Final = b'"previous_hash":"'
_HEX_DIGITS: Final = 2 * HASH_BYTES


class UnreadableEntries(NamedTuple):
    """The first and last seq of entries that can't be read, and why."""

    first_seq: int
    last_seq: int
    reason: str


class BlockContents(NamedTuple):
    """The entries of a block that can be read, by seq, and the others."""

    entries: list[StoredEntry]
    unreadable: list[UnreadableEntries]


def contents(block: Block) -> BlockContents:
    """Return the entries of a block. A frame that can't be read costs its own entries only.

    The stored hash of an entry is the one that the next leaf names; of the last one ``last_hash``.
    Where the next leaf can't be read, it is the hash of the entry's own leaf.
    """
    try:
        layout = block.layout()
        if len(block.tags) != 2 * TAG_BYTES * block.entry_count:
            raise BlockDamaged("the tags of some entries are missing")
    except BlockDamaged as error:
        return BlockContents([], [UnreadableEntries(block.first_seq, block.last_seq, str(error))])
    unreadable: list[UnreadableEntries] = []
    records = _pieces(block, block.leaves, layout.record_frames, layout.record_ends, unreadable)
    payloads = _pieces(
        block, block.payloads, layout.payload_frames, layout.payload_ends, unreadable
    )
    entries = [
        StoredEntry(
            block.org_id,
            block.first_seq + position,
            block.anchored_at,
            *tags_at(block.tags, position),
            _stored_hash(block, records, position),
            record[:HASH_BYTES],
            record[HASH_BYTES:],
            payload,
        )
        for position, (record, payload) in enumerate(zip(records, payloads, strict=True))
        if record is not None and payload is not None
    ]
    return BlockContents(entries, unreadable)


def _pieces(
    block: Block,
    column: bytes,
    frames: Sequence[Frame],
    ends: Sequence[int],
    unreadable: list[UnreadableEntries],
) -> list[bytes | None]:
    """Return the record or payload of each entry, None if its frame can't be read."""
    pieces: list[bytes | None] = []
    for frame in frames:
        try:
            content = content_of(column[frame.start : frame.start + frame.size], frame)
        except BlockDamaged as error:
            seq = block.first_seq
            unreadable.append(UnreadableEntries(seq + frame.first, seq + frame.last, str(error)))
            pieces += [None] * (frame.last - frame.first + 1)
        else:
            pieces += pieces_of(content, frame, ends)
    return pieces


def records_of(block: Block) -> list[bytes]:
    """Return signature and leaf of each entry. Raises BlockDamaged."""
    layout = block.layout()
    return [
        piece
        for frame in layout.record_frames
        for piece in pieces_of(
            content_of(block.leaves[frame.start : frame.start + frame.size], frame),
            frame,
            layout.record_ends,
        )
    ]


def pieces_of(content: bytes, frame: Frame, ends: Sequence[int]) -> list[bytes]:
    """Return the records or payloads of a frame's content."""
    borders = [0, *(end - frame.raw_start for end in ends[frame.first : frame.last + 1])]
    return [content[start:end] for start, end in pairwise(borders)]


def _stored_hash(block: Block, records: Sequence[bytes | None], position: int) -> bytes:
    if position == block.entry_count - 1:
        return block.last_hash
    following = records[position + 1]
    if following is None:
        record = records[position]
        assert record is not None, "only readable entries are asked for"
        return entry_hash(record[HASH_BYTES:])
    return previous_hash_of(following[HASH_BYTES:])


def previous_hash_of(leaf: bytes) -> bytes:
    """Return the hash of the entry before, as a leaf names it; b"" if it names none.

    A leaf is canonical JSON, in which these bytes can't occur inside a string.
    """
    start = leaf.find(_LINK) + len(_LINK)
    digits = leaf[start : start + _HEX_DIGITS]
    if start < len(_LINK) or len(digits) < _HEX_DIGITS:
        return b""
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return b""


def tags_at(tags: bytes, position: int) -> tuple[int, int]:
    """Return the short tags of actor and subject of an entry."""
    start = 2 * TAG_BYTES * position
    middle = start + TAG_BYTES
    return (
        int.from_bytes(tags[start:middle], "big"),
        int.from_bytes(tags[middle : middle + TAG_BYTES], "big"),
    )
