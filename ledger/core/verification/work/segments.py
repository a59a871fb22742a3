"""Segments of a trail: the plan that cuts it into them, and a worker's answer on each."""

from __future__ import annotations

from typing import Final

import msgspec

from ledger.chain import TrailFault
from ledger.core.verification.work.faults import MAX_FAULTS, MAX_REASON_CHARS
from ledger.merkle import TILE_WIDTH

MIN_BIGINT: Final = -(2**63)
MAX_BIGINT: Final = 2**63 - 1


class Segment(msgspec.Struct, frozen=True, tag="segment"):
    """Entries ``first`` to ``last`` of a trail, both included.

    ``context``: row ``first - 1`` is read too, for the link to it, but not checked.
    ``open_start``: rows before ``first`` are read too; there should be none.
    ``beyond``: none of these entries should exist, as the trail ends before them.
    ``tree``: the tree over them is computed too, and their checkpoints are verified.
    ``proven``: each of their tiles is proven in the tree of the largest checkpoint.
    ``anchors``: it is a segment of the anchor log; the entries are its leaves.
    """

    first: int
    last: int
    context: bool = False
    open_start: bool = False
    beyond: bool = False
    tree: bool = False
    proven: bool = False
    anchors: bool = False

    @property
    def lower(self) -> int:
        """The lowest seq to read."""
        return MIN_BIGINT if self.open_start else self.first - self.context


class SegmentHead(msgspec.Struct, frozen=True, array_like=True):
    """A signed tree head whose size lies in the segment.

    ``root`` is the signed root. The tree of ``size`` is complete blocks and then
    ``size % 256`` leaves; ``ours`` is the root over these last leaves from the
    rows, ``stored`` from the tiles: empty if there are no such leaves, None if one
    is unknown.
    """

    size: int
    root: bytes
    ours: bytes | None
    stored: bytes | None


class TileDifference(msgspec.Struct, frozen=True, array_like=True):
    """A tile of level 0 that differs from right rows: its index, and the first few such seqs.

    ``count`` is the number of hashes that differ.
    """

    tile: int
    seqs: list[int]
    count: int


class TreePart(msgspec.Struct, frozen=True):
    """One segment's part of a tree.

    ``ours`` are the roots of its complete blocks, from right rows, and from
    the tiles where a row is wrong or missing; ``stored`` are the roots from the tiles alone,
    None if all are the same. An unknown root is None. ``differing``
    are the tiles that differ from rows without any other fault. ``displaced``:
    the leaf of a wrong row differs from the tile's. ``absent``: a leaf is in
    no row, so that the tile's hash is used for it. ``rewritten`` counts leaves that differ from
    the signed ones. ``attested`` is, by check, the size of the largest anchor with a valid
    attestation. ``unproven``: a signed root could not be compared with the
    tiles, as some are missing or do not lead to it.
    """

    ours: list[bytes | None]
    stored: list[bytes | None] | None
    cuts: list[SegmentHead] = []
    differing: list[TileDifference] = []
    displaced: bool = False
    absent: bool = False
    faults: list[TrailFault] = []
    fault_count: int = 0
    kinds: list[str] = []
    passed: list[str] = []
    """Checks that at least one object passed."""
    rewritten: int = 0
    attested: dict[str, int] = {}
    unproven: bool = False


class FaultList:
    """A bounded list of faults: the first MAX_FAULTS are kept, all are counted."""

    def __init__(self) -> None:
        self.named: list[TrailFault] = []
        self.count = 0
        self.kinds: set[str] = set()

    def add(self, seq: int, kind: str, reason: str) -> None:
        """Count a fault, and keep it while there is room."""
        self.count += 1
        self.kinds.add(kind)
        if len(self.named) < MAX_FAULTS:
            self.named.append(TrailFault(seq, kind, reason[:MAX_REASON_CHARS]))

    def take(self, named: list[TrailFault], count: int, kinds: list[str]) -> None:
        """Add the faults of another list."""
        self.named += named[: MAX_FAULTS - len(self.named)]
        self.count += count
        self.kinds.update(kinds)


class SegmentResult(msgspec.Struct, tag="result"):
    """The result of checking a segment.

    ``leading_gap`` and ``trailing_gap`` count the entries missing at its edges,
    as a gap may continue in the neighbouring segment; an empty segment is one leading
    gap. Gaps inside are faults, of ``missing`` entries in all. ``faults`` are the
    first 1,000 by seq of ``fault_count``, ``kinds`` all kinds that occurred.
    ``end_hashes`` are the hashes that the next entry may name as ``previous_hash`` (empty:
    unknown), ``end_time`` is the last leaf's ``anchored_at``. ``sealed``: an entry has a sealed
    payload; ``unsealed_seq`` is the first one without.
    """

    rows: int
    failed_rows: int
    leading_gap: int
    trailing_gap: int
    missing: int
    faults: list[TrailFault]
    fault_count: int
    kinds: list[str]
    end_hashes: list[bytes] = []
    end_time: str | None = None
    tree: TreePart | None = None
    sealed: bool = False
    unsealed_seq: int | None = None


MAX_SEGMENT_ENTRIES: Final = 192 * TILE_WIDTH
MIN_SEGMENT_ENTRIES: Final = 4 * TILE_WIDTH
"""Complete blocks of the tree, so that all hashes of a block are in one segment."""
SEGMENTS_PER_PROCESS: Final = 4
"""The remaining trail is cut into at least this many segments for each process."""


class Plan:
    """Cuts ``first`` to ``last`` into segments, which are taken in order; then ``beyond``.

    ``beyond`` is the range in which no entry should exist, without an end if that is None;
    None: that range is not read. ``size`` is in entries.
    ``tree``: segments compute the tree, which begins with the first of them.
    ``proven``: segments prove their tiles under the largest checkpoint, and may begin anywhere.
    ``anchors``: the anchor log is cut.
    """

    def __init__(
        self,
        first: int,
        last: int,
        processes: int,
        *,
        beyond: tuple[int, int | None] | None,
        size: int | None = None,
        tree: bool = False,
        proven: bool = False,
        anchors: bool = False,
    ) -> None:
        self.first = first
        self.last = last
        self.taken = 0
        self.segments: dict[int, Segment] = {}
        """Taken segments by index, until their result is tallied."""
        self._shares = processes * SEGMENTS_PER_PROCESS
        self._fixed_size = size
        self._tree = tree
        self._proven = proven
        self._anchors = anchors
        self._next = first
        self._beyond = beyond

    @property
    def count(self) -> int:
        """The number of segments if each has the smallest size."""
        smallest = self._fixed_size or MIN_SEGMENT_ENTRIES
        return -(-(self.last - self.first + 1) // smallest) + (self._beyond is not None)

    @property
    def finished(self) -> bool:
        """True if every segment was taken."""
        return self._next > self.last and self._beyond is None

    def take(self) -> tuple[int, Segment] | None:
        """Take the next segment; returns it with its index, or None if all are taken."""
        if self._next <= self.last:
            first = self._next
            self._next = min(first + self._size(), self.last + 1)
            return self._hand_out(
                Segment(
                    first,
                    self._next - 1,
                    context=first > 0,
                    open_start=first == 0,
                    tree=self._tree,
                    proven=self._proven,
                    anchors=self._anchors,
                )
            )
        if self._beyond is None:
            return None
        first, end = self._beyond
        self._beyond = None
        return self._hand_out(
            Segment(
                first,
                MAX_BIGINT if end is None else max(end, first),
                context=first > 0,
                open_start=first == 0,
                beyond=True,
                tree=self._tree,
                proven=self._proven,
                anchors=self._anchors,
            )
        )

    def skip_to(self, seq: int | None) -> tuple[int, Segment] | None:
        """Take all entries before ``seq`` (None: all remaining ones) as one empty segment."""
        target = self.last + 1 if seq is None else min(seq, self.last + 1)
        if target <= self._next:
            return None
        first, self._next = self._next, target
        return self._hand_out(Segment(first, target - 1))

    def _size(self) -> int:
        """The next segment's size, which shrinks, so that all processes end at the same time."""
        share = -(-(self.last + 1 - self._next) // self._shares)
        share += -share % TILE_WIDTH
        return self._fixed_size or min(max(share, MIN_SEGMENT_ENTRIES), MAX_SEGMENT_ENTRIES)

    def _hand_out(self, segment: Segment) -> tuple[int, Segment]:
        index = self.taken
        self.taken += 1
        self.segments[index] = segment
        return index, segment
