"""Reads some entries of a block from the parts of its columns that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ledger.blocks.block import TAG_BYTES, Block
from ledger.blocks.frames import content_of
from ledger.blocks.layout import BlockDamaged, Frame
from ledger.blocks.reading import UnreadableEntries, pieces_of, previous_hash_of, tags_at
from ledger.chain import StoredEntry
from ledger.entry import HASH_BYTES, entry_hash
from ledger.errors import QuireError


class EntriesUnreadable(QuireError):
    """Wanted entries of a block can't be read; ``what`` names them and says why."""

    def __init__(self, what: UnreadableEntries) -> None:
        super().__init__(what.reason)
        self.what = what


class ByteRange(NamedTuple):
    """Consecutive bytes of a column: where they start, and how many."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.start + self.size


class Part(NamedTuple):
    """Consecutive bytes of a column, and where they start in it."""

    start: int
    data: bytes

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.start + len(self.data)

    def stored(self, frame: Frame) -> bytes:
        """Return the bytes of a frame, as far as they are here."""
        begin = frame.start - self.start
        return self.data[max(begin, 0) : max(begin + frame.size, 0)]


class Record(NamedTuple):
    """Signature and leaf of an entry, and its stored hash."""

    seq: int
    entry_hash: bytes
    signature: bytes
    leaf: bytes


class Picked:
    """Some entries of a block, by their seqs in ascending order.

    The columns ``leaves`` and ``payloads`` of the block are not used: :attr:`leaves` and
    :attr:`payloads` say which parts of them to read. ``ends`` is checked ``whole``, or as far as
    the entries need it. Raises EntriesUnreadable.
    """

    def __init__(self, block: Block, seqs: Sequence[int], *, whole: bool = False) -> None:
        self.block = block
        self.seqs = seqs
        self._positions = [seq - block.first_seq for seq in seqs]
        following = [place + 1 for place in self._positions if place + 1 < block.entry_count]
        try:
            needed = None if whole else sorted({*self._positions, *following})
            self._layout = block.layout(needed)
        except BlockDamaged as error:
            raise EntriesUnreadable(
                UnreadableEntries(block.first_seq, block.last_seq, str(error))
            ) from None
        self._records = _frames(self._layout.record_frames, [*self._positions, *following])
        self._payloads = _frames(self._layout.payload_frames, self._positions)

    @property
    def leaves(self) -> ByteRange:
        """The part of the column ``leaves`` that the entries need."""
        return _span(self._records)

    @property
    def payloads(self) -> ByteRange:
        """The part of the column ``payloads`` that the entries need."""
        return _span(self._payloads)

    @property
    def raw_record_bytes(self) -> int:
        """Bytes that :meth:`records` inflates."""
        return sum(frame.raw_size for frame in self._records)

    @property
    def raw_payload_bytes(self) -> int:
        """Bytes of payloads that :meth:`entries` inflates."""
        return sum(frame.raw_size for frame in self._payloads)

    @property
    def sizes(self) -> list[int]:
        """The bytes of the payload of each entry."""
        ends = (0, *self._layout.payload_ends)
        return [ends[place + 1] - ends[place] for place in self._positions]

    def records(self, leaves: Part) -> list[Record]:
        """Return the records of the entries. Raises EntriesUnreadable.

        The stored hash is the one that the next leaf names, or ``last_hash``. Where the next
        leaf can't be read, it is the hash of the entry's own leaf.
        """
        pieces = self._pieces(leaves, self._records, self._layout.record_ends)
        return [
            Record(
                self.block.first_seq + place,
                self._stored_hash(pieces, place),
                pieces[place][:HASH_BYTES],
                pieces[place][HASH_BYTES:],
            )
            for place in self._positions
        ]

    def entries(self, leaves: Part, payloads: Part) -> list[StoredEntry]:
        """Return the entries. Raises EntriesUnreadable."""
        block = self.block
        if len(block.tags) != 2 * TAG_BYTES * block.entry_count:
            reason = "the tags of some entries are missing"
            raise EntriesUnreadable(UnreadableEntries(block.first_seq, block.last_seq, reason))
        stored = self._pieces(payloads, self._payloads, self._layout.payload_ends)
        return [
            StoredEntry(
                block.org_id, record.seq, block.anchored_at, *tags_at(block.tags, place),
                record.entry_hash, record.signature, record.leaf, stored[place],
            )
            for place, record in zip(self._positions, self.records(leaves), strict=True)
        ]  # fmt: skip

    def _pieces(self, part: Part, frames: Sequence[Frame], ends: Sequence[int]) -> dict[int, bytes]:
        """Return the pieces of the frames, by position; only wanted ones are required."""
        pieces: dict[int, bytes] = {}
        for frame in frames:
            try:
                content = content_of(part.stored(frame), frame)
            except BlockDamaged as error:
                if any(frame.first <= place <= frame.last for place in self._positions):
                    raise EntriesUnreadable(self._named(frame, error)) from None
            else:
                pieces.update(enumerate(pieces_of(content, frame, ends), frame.first))
        return pieces

    def _named(self, frame: Frame, error: BlockDamaged) -> UnreadableEntries:
        seq = self.block.first_seq
        return UnreadableEntries(seq + frame.first, seq + frame.last, str(error))

    def _stored_hash(self, pieces: dict[int, bytes], place: int) -> bytes:
        if place == self.block.entry_count - 1:
            return self.block.last_hash
        following = pieces.get(place + 1)
        if following is None:
            return entry_hash(pieces[place][HASH_BYTES:])
        return previous_hash_of(following[HASH_BYTES:])


def _frames(frames: Sequence[Frame], positions: Iterable[int]) -> list[Frame]:
    """Return the frames that hold any of the positions, in their order."""
    if len(frames) == 1:
        return list(frames)
    wanted = set(positions)
    return [frame for frame in frames if not wanted.isdisjoint(range(frame.first, frame.last + 1))]


def _span(frames: Sequence[Frame]) -> ByteRange:
    """Return the bytes from the first of these frames to the last."""
    start = frames[0].start
    return ByteRange(start, frames[-1].start + frames[-1].size - start)
