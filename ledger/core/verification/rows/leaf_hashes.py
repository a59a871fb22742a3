"""The leaf hashes of a segment's entries, for the check of its tree."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.chain import StoredEntry
from ledger.core.verification.trees.blocks import SegmentLeaves
from ledger.core.verification.work.segments import Segment
from ledger.entry import entry_hash


class LeafHashes:
    """Collects the leaf hashes of a segment's entries, if the segment's tree is checked."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._collects = (segment.tree or segment.proven) and not segment.beyond
        self._hashes: list[bytes | None] = []
        self._wrong: dict[int, bytes] = {}

    def keep(self, hashes: Sequence[bytes]) -> None:
        """Add the leaf hashes of the next entries, which are right."""
        if self._collects:
            self._hashes += hashes

    def miss(self, count: int) -> None:
        """Note that the next ``count`` entries are missing or unreadable."""
        if self._collects:
            self._hashes += [None] * count

    def doubt(self, entry: StoredEntry) -> None:
        """Note that the next entry has a fault: its leaf has a place in the tree, but may be wrong."""
        if self._collects:
            self._hashes.append(None)
            self._wrong[entry.seq] = entry_hash(entry.leaf)

    def correct(self, entry: StoredEntry) -> None:
        """Replace the last leaf hash: another entry at its seq is the right one."""
        if self._collects:
            self._wrong.pop(entry.seq, None)
            self._hashes[-1] = entry.entry_hash

    def rows(self) -> SegmentLeaves:
        """The leaf hashes of the segment, without the context entry, after all entries were read."""
        segment = self._segment
        leaves = self._hashes[segment.context :]
        leaves += [None] * (segment.last + 1 - segment.first - len(leaves))
        return SegmentLeaves(segment.first, leaves, self._wrong)
