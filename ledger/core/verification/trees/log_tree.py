"""Assembles one signed log's tree from its segments, and compares it with the signed heads.

It keeps the right edges of two trees, ours and the stored one (see ``blocks``), and
nothing else that grows. A difference between the two waits for the next signed
root, which shows whether the rows or the tiles were altered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from ledger.core.verification.work.faults import LogKinds
from ledger.core.verification.work.segments import (
    FaultList,
    SegmentHead,
    TileDifference,
    TreePart,
)
from ledger.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, Edge, fold

MAX_WAITING: Final = 1_000
"""Differing tiles that are kept until the next signed root; further ones are only counted."""
CUTS_AT_ONCE: Final = 500


class UpperTile(NamedTuple):
    """The hashes that a stored tile must begin with: at each place, those of one of two trees."""

    level: int
    number: int
    ours: bytes
    stored: bytes

    def allows(self, data: bytes) -> bool:
        """True if each hash is that of one of the two trees at its place."""
        data = data[: len(self.ours)]
        if data in (self.ours, self.stored):
            return True
        return all(
            data[at : at + HASH_BYTES]
            in (self.ours[at : at + HASH_BYTES], self.stored[at : at + HASH_BYTES])
            for at in range(0, len(self.ours), HASH_BYTES)
        )


class UpperLevel:
    """Collects the hashes of one level into tiles; the first ``signed`` of them are in tiles."""

    def __init__(self, level: int, signed: int) -> None:
        self._level = level
        self._left = signed
        self._index = 0
        self._ours: list[bytes] = []
        self._stored: list[bytes] = []

    def add(self, ours: Sequence[bytes], stored: Sequence[bytes]) -> None:
        """Add the next hashes of both trees."""
        count = min(len(ours), self._left)
        self._left -= count
        self._ours += ours[:count]
        self._stored += stored[:count]

    def complete(self) -> Iterator[UpperTile]:
        """Remove and yield the tiles that are full."""
        while len(self._ours) >= TILE_WIDTH:
            yield self._tile()

    def end(self) -> Iterator[UpperTile]:
        """Yield the last, partial tile, if there is one."""
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


class LogTree:
    """One log's tree, built segment by segment. ``signed`` is the size that tiles must cover."""

    def __init__(self, kinds: LogKinds, signed: int) -> None:
        self.kinds = kinds
        self.signed = signed
        self.faults = FaultList()
        self.passed: set[str] = set()
        self.matched = 0
        """The number of signed heads that match the tree."""
        self.rewritten = 0
        """The number of leaves that differ from the signed ones, in rows without another fault."""
        self.unknown = False
        """True if a root or a tile could not be compared, as leaves are unknown."""
        self.displaced = False
        self.absent = False
        """True if a signed leaf is in no row."""
        self.attested: dict[str, int] = {}
        self.finished: deque[UpperTile] = deque()
        """Upper tiles that are complete and not yet compared."""
        self._blocks = 0
        # The leaves of these trees are the roots of blocks; None once a root is unknown.
        self._ours: Edge | None = Edge()
        self._stored: Edge | None = None
        self._same = True
        self._waiting: list[TileDifference] = []
        self._unlisted = 0
        self._upper: dict[int, UpperLevel] | None = {}

    def add(self, part: TreePart) -> Iterator[None]:
        """Add the next segment's part. Yields now and then, so that other tasks can run."""
        self.faults.take(part.faults, part.fault_count, part.kinds)
        self.passed.update(part.passed)
        self.displaced |= part.displaced
        self.absent |= part.absent
        for check, size in part.attested.items():
            self.attested[check] = max(size, self.attested.get(check, 0))
        differing = deque(part.differing)
        first, added = self._blocks, 0
        for number, cut in enumerate(part.cuts, 1):
            until = max(cut.size // TILE_WIDTH - first, added)
            self._extend(part, added, until)
            added = until
            while differing and differing[0].seqs[0] < cut.size:
                self._defer(differing.popleft())
            self._compare_root(cut)
            if number % CUTS_AT_ONCE == 0:
                yield
        self._extend(part, added, len(part.ours))
        for difference in differing:
            self._defer(difference)

    def close(self) -> None:
        """Finish after the last part: differences that no signed root decided are the tiles' faults."""
        self._blame_tiles()
        for level in (self._upper or {}).values():
            self.finished.extend(level.end())

    def compare(self, tile: UpperTile, data: bytes) -> None:
        """Compare a stored tile above level 0 with the hashes that it must have."""
        name = f"tile {tile.number} of level {tile.level}"
        seq = tile.number * TILE_WIDTH ** (tile.level + 1)
        above = self._signed_at(tile.level) - tile.number * TILE_WIDTH
        present, width = len(data) // HASH_BYTES, min(above, TILE_WIDTH)
        if present < width:
            reason = f"{name} has only {present} of {width} hashes"
            self.faults.add(seq, self.kinds.tile_missing, reason)
        elif present > width or not tile.allows(data):
            reason = f"{name} does not have the hashes of the tiles below it"
            self.faults.add(seq, self.kinds.tile_mismatch, reason)

    def _signed_at(self, level: int) -> int:
        """The number of hashes that the tiles of a level must have together."""
        return self.signed >> TILE_HEIGHT * level

    def _extend(self, part: TreePart, start: int, end: int) -> None:
        """Append blocks to both trees, which are one tree until their blocks differ."""
        ours = part.ours[start:end]
        if not ours:
            return
        self._blocks += len(ours)
        if part.stored is not None and self._same:
            self._same = False
            self._stored = None if self._ours is None else self._ours.copy()
        self._ours, new = _extended(self._ours, ours)
        if self._same:
            self._add_upper(new, new)
            return
        theirs = ours if part.stored is None else part.stored[start:end]
        self._stored, beside = _extended(self._stored, theirs)
        self._add_upper(new, beside)

    def _add_upper(
        self, ours: dict[int, list[bytes]] | None, stored: dict[int, list[bytes]] | None
    ) -> None:
        """Collect the hashes that the tiles above level 0 must have."""
        if ours is None or self._upper is None:
            self.unknown, self._upper = True, None
            return
        for below, hashes in ours.items():
            level = below + 1
            upper = self._upper.setdefault(level, UpperLevel(level, self._signed_at(level)))
            upper.add(hashes, hashes if stored is None else stored[below])
            self.finished.extend(upper.complete())

    def _compare_root(self, cut: SegmentHead) -> None:
        """Compare a signed root with both trees; the tree that has it is right."""
        ours = _root(self._ours, cut.ours)
        if ours == cut.root:
            self.matched += cut.size > 0  # the empty tree proves no leaf
            self._blame_tiles()
            self._same, self._stored = True, None
            return
        if not self._same or cut.stored != cut.ours:
            edge = self._ours if self._same else self._stored
            if _root(edge, cut.stored) == cut.root:
                self.matched += 1
                self._blame_rows()
                if not self._same:
                    self._ours, self._same, self._stored = self._stored, True, None
                return
        if ours is None:
            self.unknown = True
            return
        self.faults.add(
            cut.size - 1,
            self.kinds.forked,
            f"the root signed for size {cut.size} is not the root of the stored leaves",
        )

    def _defer(self, difference: TileDifference) -> None:
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(difference)
        else:
            self._unlisted += 1

    def _blame_tiles(self) -> None:
        for tile, seqs, count in self._decided():
            reason = f"{count} of the hashes in tile {tile} of level 0 differ from the leaves"
            self.faults.add(seqs[0], self.kinds.tile_mismatch, reason)

    def _blame_rows(self) -> None:
        for _tile, seqs, count in self._decided():
            self.rewritten += count
            self.faults.count += count - len(seqs)
            for seq in seqs:
                reason = f"leaf {seq} differs from the signed one, although its links are right"
                self.faults.add(seq, self.kinds.rewritten, reason)

    def _decided(self) -> Iterator[tuple[int, Sequence[int], int]]:
        waiting, self._waiting = self._waiting, []
        self.faults.count += self._unlisted
        self._unlisted = 0
        for difference in waiting:
            yield difference.tile, difference.seqs, difference.count


def _root(edge: Edge | None, rest: bytes | None) -> bytes | None:
    """The root over complete blocks and the root ``rest`` of the leaves after them; None if unknown."""
    if edge is None or rest is None:
        return None
    return fold((*edge.nodes, rest)) if rest else edge.root()


def _extended(
    edge: Edge | None, blocks: Sequence[bytes | None]
) -> tuple[Edge | None, dict[int, list[bytes]] | None]:
    """The edge extended by these blocks, and the new hashes by level over the blocks."""
    if edge is None or None in blocks:
        return None, None
    new = edge.extend(blocks)  # type: ignore[arg-type]
    return edge, new
