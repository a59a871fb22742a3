"""Inclusion proofs of many leaves of one tile: what they share is computed once."""

from __future__ import annotations

from collections.abc import Mapping

from ledger.errors import TileError
from ledger.merkle import HASH_BYTES, verify_inclusion
from ledger.merkle.hashing import parents
from ledger.tiles.coordinates import TILE_WIDTH, Tile, tile_in
from ledger.tiles.proofs import inclusion_proof, tiles_for_inclusion


def tiles_for_proofs(index: int, size: int) -> tuple[Tile, ...]:
    """The tiles that the proofs of all leaves of level 0 tile ``index`` are made from.

    Raises TileError where a tree of ``size`` has no such tile.
    """
    own = tile_in(size, 0, index)
    return tuple({own, *tiles_for_inclusion(index * TILE_WIDTH, size)})


class TileProofs:
    """Proves the leaves of one level 0 tile in a tree of ``size``.

    ``tiles`` are those of :func:`tiles_for_proofs`. Raises TileError where one of them is
    missing or short.
    """

    def __init__(self, index: int, size: int, tiles: Mapping[Tile, bytes]) -> None:
        tile = tile_in(size, 0, index)
        self._first, self._size, self._tiles = index * TILE_WIDTH, size, tiles
        data = tiles.get(tile, b"")
        if len(data) < tile.width * HASH_BYTES:
            raise TileError(f"{tile.path()} has {len(data)} bytes, too few for {tile.width} hashes")
        self._levels = [
            [data[at : at + HASH_BYTES] for at in range(0, tile.width * HASH_BYTES, HASH_BYTES)]
        ]
        self._above: list[bytes] | None = None
        if tile.width == TILE_WIDTH:
            while len(self._levels[-1]) > 1:
                self._levels.append(parents(self._levels[-1]))
            self._levels.pop()
            self._above = inclusion_proof(self._first, size, tiles)[len(self._levels) :]

    def check(self, root: bytes) -> None:
        """Hold every proof of this tile against the root of the tree. Raises MerkleError.

        The path of one leaf is hashed from all leaves of its tile and from all that
        the tile's proofs have in common, so it stands for those of the others.
        """
        first = self._first
        verify_inclusion(first, self._size, self.leaf_hash(first), self.proof(first), root)

    def leaf_hash(self, index: int) -> bytes:
        """The hash of a leaf of this tile."""
        return self._levels[0][index - self._first]

    def proof(self, index: int) -> list[bytes]:
        """The inclusion proof of a leaf of this tile, its sibling first."""
        if self._above is None:  # the newest tile, not full yet
            return inclusion_proof(index, self._size, self._tiles)
        at = index - self._first
        return [*(row[at >> height ^ 1] for height, row in enumerate(self._levels)), *self._above]
