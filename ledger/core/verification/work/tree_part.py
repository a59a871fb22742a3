"""What a worker found of a tree over one segment: enough to put the whole tree together."""

from __future__ import annotations

from typing import Final

import msgspec

from ledger.chain import Fault
from ledger.core.verification.work.faults import MAX_FAULTS, MAX_REASON_CHARS

TILE_HASHES: Final = 256
"""Hashes of a whole tile; as many leaves make a block, whose root is one hash of level 1."""


class Cut(msgspec.Struct, frozen=True, array_like=True):
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


class Difference(msgspec.Struct, frozen=True, array_like=True):
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
    cuts: list[Cut] = []
    differing: list[Difference] = []
    displaced: bool = False
    absent: bool = False
    faults: list[Fault] = []
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
        self.named: list[Fault] = []
        self.count = 0
        self.kinds: set[str] = set()

    def add(self, seq: int, kind: str, reason: str) -> None:
        """Count a fault, and name it while there is room."""
        self.count += 1
        self.kinds.add(kind)
        if len(self.named) < MAX_FAULTS:
            self.named.append(Fault(seq, kind, reason[:MAX_REASON_CHARS]))

    def take(self, named: list[Fault], count: int, kinds: list[str]) -> None:
        """Take over the faults of another list."""
        self.named += named[: MAX_FAULTS - len(self.named)]
        self.count += count
        self.kinds.update(kinds)
