"""Segments of a trail: how it is cut into them, and what a worker answers of each."""

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

    ``context``: row ``first - 1`` is read too, for the link to it, and not judged.
    ``open_start``: rows before ``first`` are read too; none belongs there.
    ``beyond``: none of these entries should exist, as the head row ends before them.
    ``tree``: the tree over them is computed too, and their checkpoints verified.
    ``proven``: each of its tiles is proven in the tree under the largest checkpoint.
    ``anchors``: it is a segment of the anchor log and its leaves.
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
    """A signed tree head that falls into the segment.

    ``root`` is what was signed. The tree of ``size`` is whole blocks and then
    ``size % 256`` leaves; ``ours`` is the root over these last leaves from the
    rows, ``stored`` from the tiles: empty where there are none, None where a
    leaf is not known.
    """

    size: int
    root: bytes
    ours: bytes | None
    stored: bytes | None


class TileDifference(msgspec.Struct, frozen=True, array_like=True):
    """A tile of level 0 that is not what the rows make it: its index, and the seqs, the first few.

    ``count`` is the number of hashes that differ.
    """

    tile: int
    seqs: list[int]
    count: int


class TreePart(msgspec.Struct, frozen=True):
    """One segment's part of a tree.

    ``ours`` are the roots of its whole blocks, from the rows wherever these are
    right and from the tiles where they are not; ``stored`` from the tiles alone,
    None for all where both are the same. An unknown root is None. ``differing``
    are the tiles at odds with rows in which nothing else is wrong. ``displaced``:
    the leaf of a row that was found wrong is not the tile's. ``absent``: a leaf is in
    no row, so that its tile stands in for it. ``rewritten`` counts leaves that are not
    those that were signed. ``attested`` is the largest anchor, by check, of which someone
    else's attestation holds. ``unproven``: a signed root could not be held against the
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
    held: list[str] = []
    """Checks for which at least one thing was found right."""
    rewritten: int = 0
    attested: dict[str, int] = {}
    unproven: bool = False


class FaultList:
    """Faults with their bound: the first 1,000 are named, all are counted."""

    def __init__(self) -> None:
        self.named: list[TrailFault] = []
        self.count = 0
        self.kinds: set[str] = set()

    def add(self, seq: int, kind: str, reason: str) -> None:
        """Count a fault, and name it while there is room."""
        self.count += 1
        self.kinds.add(kind)
        if len(self.named) < MAX_FAULTS:
            self.named.append(TrailFault(seq, kind, reason[:MAX_REASON_CHARS]))

    def take(self, named: list[TrailFault], count: int, kinds: list[str]) -> None:
        """Take over the faults of another list."""
        self.named += named[: MAX_FAULTS - len(self.named)]
        self.count += count
        self.kinds.update(kinds)


class SegmentResult(msgspec.Struct, tag="result"):
    """What stands in a segment.

    ``leading_gap`` and ``trailing_gap`` count the entries missing at its edges,
    where a gap may go on in the next segment; an empty segment is one leading
    gap. Gaps inside are faults, of ``missing`` entries in all. ``faults`` holds the
    first 1,000 by seq of ``fault_count``, ``kinds`` all kinds that occurred.
    ``end_hashes`` are the hashes that may follow as ``previous_hash`` (empty:
    not known), ``end_time`` is the last leaf's ``anchored_at``.
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


MAX_SEGMENT_ENTRIES: Final = 192 * TILE_WIDTH
MIN_SEGMENT_ENTRIES: Final = 4 * TILE_WIDTH
"""Whole blocks of the tree, so that each has its hashes in one segment."""
SEGMENTS_PER_PROCESS: Final = 4
"""Into at least so many is cut what is left of a trail."""


class Plan:
    """Segments of ``first`` to ``last`` in order, taken one by one, then what is ``beyond``.

    ``beyond`` is the range, open-ended where its end is None, in which no entry
    should stand; None: nothing is to be read there. ``size`` is in entries.
    ``tree``: segments carry the tree, and the first one begins with the trail.
    ``proven``: segments hold their tiles against the largest checkpoint, wherever they begin.
    ``anchors``: it is the anchor log that is cut.
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
        """How many segments there are in all, if each is as small as can be."""
        smallest = self._fixed_size or MIN_SEGMENT_ENTRIES
        return -(-(self.last - self.first + 1) // smallest) + (self._beyond is not None)

    @property
    def finished(self) -> bool:
        """Whether every segment was taken."""
        return self._next > self.last and self._beyond is None

    def take(self) -> tuple[int, Segment] | None:
        """The next segment and its index, or None when all are taken."""
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
        """Take all entries before ``seq`` (None: all that are left) as one segment, known empty."""
        target = self.last + 1 if seq is None else min(seq, self.last + 1)
        if target <= self._next:
            return None
        first, self._next = self._next, target
        return self._hand_out(Segment(first, target - 1))

    def _size(self) -> int:
        """Smaller towards the end, so that all processes end together."""
        share = -(-(self.last + 1 - self._next) // self._shares)
        share += -share % TILE_WIDTH
        return self._fixed_size or min(max(share, MIN_SEGMENT_ENTRIES), MAX_SEGMENT_ENTRIES)

    def _hand_out(self, segment: Segment) -> tuple[int, Segment]:
        index = self.taken
        self.taken += 1
        self.segments[index] = segment
        return index, segment
