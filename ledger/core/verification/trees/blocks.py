"""The tree over one segment: leaf hashes of the rows against the tiles of level 0.

Two trees are followed side by side. *Ours* has the leaf hashes that were
computed from rows, and the tile's where the row is missing or wrong; *stored*
has the tiles' alone. They are nearly always the same. Where they are not, the
next signed root tells which of the two was altered, and verification goes on.
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

    ``needed`` is the largest size of a head that is known of, in the tiles or elsewhere.
    """

    by_index: Mapping[int, bytes]
    size: int
    needed: int
    kinds: LogKinds


class SegmentLeaves(NamedTuple):
    """Leaf hashes of a segment's rows from seq ``first`` on, None where the row is not right.

    ``wrong`` are the hashes of leaves in rows that are there but have a fault.
    """

    first: int
    leaves: Leaves
    wrong: Mapping[int, bytes]


def tree_part(
    rows: SegmentLeaves,
    tiles: SegmentTiles,
    heads: Sequence[SignedTreeHead],
    faults: FaultList,
    held: set[str],
) -> TreePart:
    """The segment's part of the tree, with the cuts at these heads (by size, ascending)."""
    return _Blocks(rows, tiles, faults).part(heads, held)


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

    def part(self, heads: Sequence[SignedTreeHead], held: set[str]) -> TreePart:
        first = self._rows.first
        waiting = 0
        while waiting < len(heads) and heads[waiting].size <= first:  # the tree without leaves
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
            held=sorted(held),
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
            ours = _Levels(self._mended(start, leaves, hashes, tile))
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
        """The tile's hashes, None where it has none; faults where it is not as wide as it must be."""
        stands = len(data) // HASH_BYTES
        seq = tile * TILE_WIDTH
        if stands < width:
            self._faults.add(
                seq + stands,
                self._tiles.kinds.tile_missing,
                f"tile {tile} of level 0 has {stands} of {width} hashes",
            )
        elif len(data) > width * HASH_BYTES:
            self._faults.add(
                seq + width,
                self._tiles.kinds.tile_mismatch,
                f"tile {tile} of level 0 has {stands} hashes, of which {width} are signed",
            )
        ends = min(stands, width) * HASH_BYTES
        known: list[bytes | None] = [
            data[at : at + HASH_BYTES] for at in range(0, ends, HASH_BYTES)
        ]
        return known[:count] + [None] * (count - len(known))

    def _mended(
        self, start: int, leaves: Leaves, stored: Sequence[bytes | None], tile: int
    ) -> list[bytes | None]:
        """Our leaves, the tile's where the row is missing or wrong; notes where they differ."""
        first = self._rows.first + start
        mended: list[bytes | None] = []
        differing: list[int] = []
        for seq, (leaf, kept) in enumerate(zip(leaves, stored, strict=True), first):
            if leaf is None:
                wrong = self._rows.wrong.get(seq)
                self._displaced |= wrong is not None and kept is not None and wrong != kept
                self._absent |= wrong is None
                mended.append(kept or wrong)
                continue
            mended.append(leaf)
            if kept is not None and kept != leaf:
                differing.append(seq)
        if differing:
            self._differing.append(TileDifference(tile, differing[:MAX_SEQS], len(differing)))
        return mended


class _Levels:
    """A block's hashes, level by level, up to the first leaf that is not known."""

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
        """The root of a whole block."""
        return self._levels[-1][0] if self._known == TILE_WIDTH else None

    def fold(self, count: int) -> bytes | None:
        """The root over the first ``count`` leaves; empty for a whole block, which is no rest."""
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
