"""The leaf hashes of one segment, as its rows go by."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ledger.chain import Entry
from ledger.core.verification.trees.blocks import Rows
from ledger.core.verification.work.segment import Segment
from ledger.entry import entry_hash


class LeafHashes:
    """Collects them where the segment carries the tree; from the first row that is read on."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._wanted = (segment.tree or segment.proven) and not segment.beyond
        self._hashes: list[bytes | None] = []
        self._wrong: dict[int, bytes] = {}
        self.keep: Callable[[bytes], object] = (
            self._hashes.append if self._wanted else deque[bytes](maxlen=0).append
        )
        """Takes the leaf hash of the next row, which is right."""

    def miss(self, count: int) -> None:
        """The next rows are missing."""
        if self._wanted:
            self._hashes += [None] * count

    def doubt(self, entry: Entry) -> None:
        """The next row is at fault: it has a place in the tree, its leaf is not to be relied on."""
        if self._wanted:
            self._hashes.append(None)
            self._wrong[entry.seq] = entry_hash(entry.leaf)

    def correct(self, entry: Entry) -> None:
        """Another row at the seq of the last one turned out to be the right one."""
        if self._wanted:
            self._wrong.pop(entry.seq, None)
            self._hashes[-1] = entry.entry_hash

    def rows(self) -> Rows:
        """Those of the segment alone, once all rows went by."""
        segment = self._segment
        leaves = self._hashes[segment.context :]
        leaves += [None] * (segment.last + 1 - segment.first - len(leaves))
        return Rows(segment.first, leaves, self._wrong)
