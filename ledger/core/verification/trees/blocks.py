"""The tree over one segment: compares leaf hashes of the rows with the tiles of level 0.

Two trees are computed side by side. *Ours* has the leaf hashes that were
computed from rows, and the tile's if the row is missing or wrong; *stored*
has the tiles' alone. They are nearly always the same. If they differ, the
next signed root shows which of the two was altered, and verification continues.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from ledger.checkpoint import SignedTreeHead
from ledger.core.verification.work.faults import LogKinds
from ledger.core.verification.work.segments import FaultList, SegmentHead, TileDifference, TreePart
from ledger.merkle import HASH_BYTES, TILE_WIDTH, fold
from ledger.merkle.hashing import parents

MAX_SEQS: Final = 4

Leaves = Sequence[bytes | None]


class SegmentTiles(NamedTuple):
    """The stored tiles of level 0 under a segment; ``size`` is the signed size they must cover.

    ``needed`` is the largest size of a known head, stored or remembered.
    """

    by_index: Mapping[int, bytes]
    size: int
    needed: int
    kinds: LogKinds


class SegmentLeaves(NamedTuple):
    """Leaf hashes of a segment's rows from seq ``first`` on, None for a missing or wrong row.

    ``wrong`` are, by seq, the leaf hashes of rows that have a fault.
    """

    first: int
    leaves: Leaves
    wrong: Mapping[int, bytes]


def tree_part(
    rows: SegmentLeaves,
    tiles: SegmentTiles,
    heads: Sequence[SignedTreeHead],
    faults: FaultList,
    passed: set[str],
) -> TreePart:
    """Compute the segment's part of the tree, with the cuts at these heads (by size, ascending)."""
    return _Blocks(rows, tiles, faults).part(heads, passed)


class _Blocks:
    def __init__(self, rows: SegmentLeaves, tiles: SegmentTiles, faults: FaultList) -> None:
        self._rows = rows
        self._tiles = tiles
        self._faults = faults
        self._ours: list[bytes | None] = []
        self._stored: list[bytes | None] = []
        self._same = True
        self._cuts: list[SegmentHead] = []
        self._differing: list[TileDifference] = []
        self._displaced = False
        self._absent = False

    def part(self, heads: Sequence[SignedTreeHead], passed: set[str]) -> TreePart:
        first = self._rows.first
        waiting = 0
        while waiting < len(heads) and heads[waiting].size <= first:  # the empty tree
            self._cuts.append(SegmentHead(heads[waiting].size, heads[waiting].root, b"", b""))
            waiting += 1
        count = len(self._rows.leaves)
        for start in range(0, count, TILE_WIDTH):
            end = first + min(start + TILE_WIDTH, count)
            until = waiting
            while until < len(heads) and heads[until].size <= end:
                until += 1
            if first + start < self._tiles.needed:
                self._block(start, heads[waiting:until])
            waiting = until
        return TreePart(
            ours=self._ours,
            stored=None if self._same else self._stored,
            cuts=self._cuts,
            differing=self._differing,
            displaced=self._displaced,
            absent=self._absent,
            faults=self._faults.named,
            fault_count=self._faults.count,
            kinds=sorted(self._faults.kinds),
            passed=sorted(passed),
        )

    def _block(self, start: int, heads: Sequence[SignedTreeHead]) -> None:
        leaves = self._rows.leaves[start : start + TILE_WIDTH]
        tile = (self._rows.first + start) // TILE_WIDTH
        width = min(max(self._tiles.size - tile * TILE_WIDTH, 0), TILE_WIDTH)
        data = self._tiles.by_index.get(tile, b"")
        if (
            None not in leaves
            and len(data) == width * HASH_BYTES
            and data.startswith(b"".join(leaves[:width]))  # type: ignore[arg-type]
        ):
            ours = _Levels(leaves)
            stored = ours
        else:
            hashes = self._stored_hashes(tile, data, width, len(leaves))
            ours = _Levels(self._completed(start, leaves, hashes, tile))
            stored = _Levels(hashes)
            self._same = False
        first = tile * TILE_WIDTH
        self._cuts += [
            SegmentHead(
                head.size, head.root, ours.fold(head.size - first), stored.fold(head.size - first)
            )
            for head in heads
        ]
        if len(leaves) == TILE_WIDTH:
            self._ours.append(ours.root)
            self._stored.append(stored.root)

    def _stored_hashes(self, tile: int, data: bytes, width: int, count: int) -> list[bytes | None]:
        """The tile's hashes, None for those that it lacks; adds a fault for a wrong width."""
        present = len(data) // HASH_BYTES
        seq = tile * TILE_WIDTH
        if present < width:
            self._faults.add(
                seq + present,
                self._tiles.kinds.tile_missing,
                f"tile {tile} of level 0 has only {present} of {width} hashes",
            )
        elif len(data) > width * HASH_BYTES:
            self._faults.add(
                seq + width,
                self._tiles.kinds.tile_mismatch,
                f"tile {tile} of level 0 has {present} hashes, but only {width} are signed",
            )
        end = min(present, width) * HASH_BYTES
        known: list[bytes | None] = [data[at : at + HASH_BYTES] for at in range(0, end, HASH_BYTES)]
        return known[:count] + [None] * (count - len(known))

    def _completed(
        self, start: int, leaves: Leaves, stored: Sequence[bytes | None], tile: int
    ) -> list[bytes | None]:
        """Our leaves, and the tile's for missing or wrong rows; records where both differ."""
        first = self._rows.first + start
        completed: list[bytes | None] = []
        differing: list[int] = []
        for seq, (leaf, kept) in enumerate(zip(leaves, stored, strict=True), first):
            if leaf is None:
                wrong = self._rows.wrong.get(seq)
                self._displaced |= wrong is not None and kept is not None and wrong != kept
                self._absent |= wrong is None
                completed.append(kept or wrong)
                continue
            completed.append(leaf)
            if kept is not None and kept != leaf:
                differing.append(seq)
        if differing:
            self._differing.append(TileDifference(tile, differing[:MAX_SEQS], len(differing)))
        return completed


class _Levels:
    """A block's hashes, level by level, up to the first unknown leaf."""

    def __init__(self, leaves: Leaves) -> None:
        known = leaves.index(None) if None in leaves else len(leaves)
        level: list[bytes] = leaves[:known]  # type: ignore[assignment]
        self._known = known
        self._levels = [level]
        while len(level) > 1:
            level = parents(level if len(level) % 2 == 0 else level[:-1])
            self._levels.append(level)

    @property
    def root(self) -> bytes | None:
        """The root of a complete block, or None."""
        return self._levels[-1][0] if self._known == TILE_WIDTH else None

    def fold(self, count: int) -> bytes | None:
        """The root over the first ``count`` leaves, None if one is unknown; b"" for the whole block."""
        if count > self._known:
            return None
        if count == TILE_WIDTH:
            return b""
        peaks = []
        start = 0
        for height in range(count.bit_length() - 1, -1, -1):
            if count >> height & 1:
                peaks.append(self._levels[height][start >> height])
                start += 1 << height
        return fold(peaks)
