"""A segment of a trail: what one worker checks at a time, and what it answers."""

from __future__ import annotations

from typing import Final

import msgspec

from ledger.chain import Fault
from ledger.core.verification.work.tree_part import TreePart

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
    faults: list[Fault]
    fault_count: int
    kinds: list[str]
    end_hashes: list[bytes] = []
    end_time: str | None = None
    tree: TreePart | None = None
