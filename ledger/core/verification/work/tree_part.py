"""What a worker found of a tree over one segment: enough to put the whole tree together.

Tiles above level 0 are made of these parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from ledger.chain import TrailFault
from ledger.core.verification.work.faults import MAX_FAULTS, MAX_REASON_CHARS
from ledger.merkle import HASH_BYTES, TILE_WIDTH


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


class UpperTile(NamedTuple):
    """What a stored tile must begin with: the hashes of one of two trees, place by place."""

    level: int
    number: int
    ours: bytes
    stored: bytes

    def allows(self, data: bytes) -> bool:
        """Whether each hash is one that either tree has in its place."""
        data = data[: len(self.ours)]
        if data in (self.ours, self.stored):
            return True
        return all(
            data[at : at + HASH_BYTES]
            in (self.ours[at : at + HASH_BYTES], self.stored[at : at + HASH_BYTES])
            for at in range(0, len(self.ours), HASH_BYTES)
        )


class UpperLevel:
    """Hashes of one level as they come up; ``signed`` of them are in tiles."""

    def __init__(self, level: int, signed: int) -> None:
        self._level = level
        self._left = signed
        self._index = 0
        self._ours: list[bytes] = []
        self._stored: list[bytes] = []

    def add(self, ours: Sequence[bytes], stored: Sequence[bytes]) -> None:
        """The next hashes, of both trees."""
        count = min(len(ours), self._left)
        self._left -= count
        self._ours += ours[:count]
        self._stored += stored[:count]

    def complete(self) -> Iterator[UpperTile]:
        """Tiles that are whole."""
        while len(self._ours) >= TILE_WIDTH:
            yield self._tile()

    def end(self) -> Iterator[UpperTile]:
        """The tile that is not whole, if there is one."""
        if self._ours:
            yield self._tile()

    def _tile(self) -> UpperTile:
        tile = UpperTile(
            self._level,
            self._index,
            b"".join(self._ours[:TILE_WIDTH]),
            b"".join(self._stored[:TILE_WIDTH]),
        )
        self._index += 1
        del self._ours[:TILE_WIDTH], self._stored[:TILE_WIDTH]
        return tile
