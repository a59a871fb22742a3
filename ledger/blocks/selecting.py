"""Selects entries of a block: by their tags, which only select, and by bytes of their leaves.

Works on parts of a block: its short columns, and those frames that hold chosen entries.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ledger.blocks.block import TAG_BYTES
from ledger.blocks.frames import content_of
from ledger.blocks.layout import BLOCK_ENTRIES, BlockDamaged, Frame, Layout, read_ends
from ledger.blocks.reading import UnreadableEntries, previous_hash_of
from ledger.chain import StoredEntry
from ledger.entry import HASH_BYTES, entry_hash

PAIR_BYTES: Final = 2 * TAG_BYTES
"""Bytes of the tags of one entry."""


class BlockRow(NamedTuple):
    """The short columns of a block; its leaves and payloads too, unless they are long."""

    last_seq: int
    anchored_at: datetime
    first_seq: int
    last_hash: bytes
    tags: bytes
    ends: bytes
    leaves: bytes | None
    payloads: bytes | None


class ChosenEntries(NamedTuple):
    """Entries of one block by position, ascending, and the frames of their records.

    The frames hold the entry after each as well: its leaf names the stored hash.
    """

    row: BlockRow
    layout: Layout
    positions: Sequence[int]
    frames: Sequence[Frame]


class MatchedRecord(NamedTuple):
    """Signature and leaf of one entry, its stored hash, and its place in its block."""

    row: BlockRow
    layout: Layout
    position: int
    record: bytes
    entry_hash: bytes

    @property
    def seq(self) -> int:
        """The seq of the entry."""
        return self.row.first_seq + self.position

    @property
    def anchored_at(self) -> datetime:
        """The time of the entry."""
        return self.row.anchored_at

    @property
    def leaf(self) -> bytes:
        """The leaf of the entry."""
        return self.record[HASH_BYTES:]

    @property
    def payload_size(self) -> int:
        """The bytes of the payload, as the block says."""
        start, end = piece_bounds(self.layout.payload_ends, self.position)
        return end - start

    @property
    def payload_frame(self) -> Frame:
        """The frame that holds the payload."""
        frames = self.layout.payload_frames
        return frames[bisect_left(frames, self.position, key=lambda frame: frame.last)]

    def entry(self, org_id: int, payload: bytes) -> StoredEntry:
        """Return the whole entry."""
        start = PAIR_BYTES * self.position
        tags = int.from_bytes(self.row.tags[start : start + PAIR_BYTES], "big")
        return StoredEntry(
            org_id,
            self.seq,
            self.row.anchored_at,
            *divmod(tags, 1 << 8 * TAG_BYTES),
            self.entry_hash,
            self.record[:HASH_BYTES],
            self.leaf,
            payload,
        )


class Matches(NamedTuple):
    """The records that match, by seq, and the chosen entries that can't be read."""

    records: list[MatchedRecord]
    unreadable: list[UnreadableEntries]


def positions_of(
    first_seq: int, last_seq: int, tags: bytes, lower: int, upper: int
) -> Sequence[int]:
    """Return the positions of the entries ``lower`` to ``upper`` in a block. Raises BlockDamaged."""
    count = last_seq - first_seq + 1
    if not 1 <= count <= BLOCK_ENTRIES:
        raise BlockDamaged(f"a block has 1 to {BLOCK_ENTRIES} entries, not {count}")
    if len(tags) != PAIR_BYTES * count:
        raise BlockDamaged("the tags of some entries are missing")
    return range(max(lower - first_seq, 0), min(upper - first_seq, count - 1) + 1)


def tagged(tags: bytes, actor_tag: int, subject_tag: int, within: Sequence[int]) -> list[int]:
    """Return the positions of the entries with these short tags; 0 stands for any, not for both."""
    actor, subject = (tag.to_bytes(TAG_BYTES, "big") for tag in (actor_tag, subject_tag))
    wanted = (actor if actor_tag else b"") + (subject if subject_tag else b"")
    shift = 0 if actor_tag else TAG_BYTES
    found: list[int] = []
    if not within:
        return found
    start, end = within[0] * PAIR_BYTES, (within[-1] + 1) * PAIR_BYTES
    at = tags.find(wanted, start, end)
    while at >= 0:
        if at % PAIR_BYTES == shift:
            found.append(at // PAIR_BYTES)
        at = tags.find(wanted, at + 1, end)
    return found


def choose(row: BlockRow, positions: Sequence[int]) -> ChosenEntries:
    """Choose entries of a block by position, ascending. Raises BlockDamaged."""
    last = row.last_seq - row.first_seq
    needed = [p for position in positions for p in (position, min(position + 1, last))]
    layout = read_ends(row.ends, last + 1, needed)
    return ChosenEntries(row, layout, positions, frames_with(layout.record_frames, needed))


def frames_with(frames: Sequence[Frame], positions: Iterable[int]) -> list[Frame]:
    """Return the frames that hold these positions, which ascend but may repeat."""
    found: list[Frame] = []
    rest = iter(frames)
    last = -1
    for position in positions:
        if position > last:
            found.append(next(frame for frame in rest if frame.last >= position))
            last = found[-1].last
    return found


def matching(chosen: ChosenEntries, stored: Sequence[bytes], patterns: Sequence[bytes]) -> Matches:
    """Return those chosen entries whose leaves contain all patterns.

    ``stored``: the stored bytes of ``chosen.frames``. A frame that can't be read costs its own
    entries only.
    """
    matches = Matches([], [])
    contents = [
        _content(chosen, frame, data, matches.unreadable)
        for frame, data in zip(chosen.frames, stored, strict=True)
    ]
    known = dict(zip(chosen.frames, contents, strict=True))
    for frame, content in known.items():
        if content is not None and all(pattern in content for pattern in patterns):
            matches.records.extend(_in_frame(chosen, frame, known, patterns))
    return matches


def _content(
    chosen: ChosenEntries, frame: Frame, data: bytes, unreadable: list[UnreadableEntries]
) -> bytes | None:
    """Return the content of a frame; None if it can't be read, which is noted if it matters."""
    try:
        return content_of(data, frame)
    except BlockDamaged as error:
        if _inside(chosen.positions, frame):
            first = chosen.row.first_seq
            unreadable.append(
                UnreadableEntries(first + frame.first, first + frame.last, str(error))
            )
        return None


def _in_frame(
    chosen: ChosenEntries,
    frame: Frame,
    known: dict[Frame, bytes | None],
    patterns: Sequence[bytes],
) -> Iterable[MatchedRecord]:
    ends, row = chosen.layout.record_ends, chosen.row._replace(leaves=None)
    content = known[frame]
    assert content is not None, "only readable frames are searched"
    for position in _inside(chosen.positions, frame):
        start, end = piece_bounds(ends, position)
        record = content[start - frame.raw_start : end - frame.raw_start]
        if all(record.find(pattern, HASH_BYTES) >= 0 for pattern in patterns):
            link = _stored_hash(chosen, known, position, record)
            yield MatchedRecord(row, chosen.layout, position, record, link)


def _inside(positions: Sequence[int], frame: Frame) -> Sequence[int]:
    return positions[bisect_left(positions, frame.first) : bisect_right(positions, frame.last)]


def _stored_hash(
    chosen: ChosenEntries, known: dict[Frame, bytes | None], position: int, record: bytes
) -> bytes:
    """Return what the next leaf names; the hash of the entry's leaf if that can't be read."""
    ends = chosen.layout.record_ends
    if position == len(ends) - 1:
        return chosen.row.last_hash
    frame = next(frame for frame in known if frame.first <= position + 1 <= frame.last)
    content = known[frame]
    if content is None:
        return entry_hash(record[HASH_BYTES:])
    start, end = piece_bounds(ends, position + 1)
    return previous_hash_of(content[start - frame.raw_start + HASH_BYTES : end - frame.raw_start])


def piece_bounds(ends: Sequence[int], position: int) -> tuple[int, int]:
    """Return start and end of a record or payload in the raw bytes of all of them."""
    return (ends[position - 1] if position else 0), ends[position]
