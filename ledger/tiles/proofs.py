"""Proofs made from tiles: which are needed, and the proof once their bytes are there.

Tiles are named at their width in the tree that the proof is about. Their bytes
may be those of a wider tile, from a tree that has grown since; what is beyond
the width is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from ledger.errors import TileError
from ledger.merkle import (
    HASH_BYTES,
    MAX_SIZE,
    TILE_HEIGHT,
    TILE_WIDTH,
    Edge,
    consistency_spans,
    fold,
    inclusion_spans,
    perfect_root,
    perfect_spans,
    verify_inclusion,
)
from ledger.merkle.hashing import parents
from ledger.tiles.coordinates import Tile, tile_in

Span = tuple[int, int]

CACHED_RUNS: Final = 1024
"""Roots of parts of tiles that are kept, with at most 4 KiB each: the same few upper
tiles, and the newest of the leaves, are in most proofs."""
_run_root = lru_cache(maxsize=CACHED_RUNS)(perfect_root)


def tiles_for_inclusion(index: int, size: int) -> tuple[Tile, ...]:
    """The tiles that the proof of leaf ``index`` in a tree of ``size`` is made from.

    Raises MerkleError where there is no such leaf.
    """
    return _tiles(inclusion_spans(index, size), size)


def inclusion_proof(index: int, size: int, tiles: Mapping[Tile, bytes]) -> list[bytes]:
    """The proof of leaf ``index`` in a tree of ``size``, its sibling first.

    Raises MerkleError where there is no such leaf, TileError where one of
    :func:`tiles_for_inclusion` is missing or short.
    """
    return [_hash(span, size, tiles) for span in inclusion_spans(index, size)]


def tiles_for_consistency(size1: int, size2: int) -> tuple[Tile, ...]:
    """The tiles that the proof of ``size1`` within ``size2`` is made from.

    Raises MerkleError where ``size1`` is 0, which needs no proof, or beyond ``size2``.
    """
    return _tiles(consistency_spans(0, size1, size2), size2)


def consistency_proof(size1: int, size2: int, tiles: Mapping[Tile, bytes]) -> list[bytes]:
    """The proof that the tree of ``size2`` begins with that of ``size1``.

    Raises MerkleError as :func:`tiles_for_consistency` does, TileError where one
    of those is missing or short.
    """
    return [_hash(span, size2, tiles) for span in consistency_spans(0, size1, size2)]


def tiles_for_edge(size: int) -> tuple[Tile, ...]:
    """The tiles that hold the right edge: the partial one of each level."""
    return _tiles([(0, size)], size)


def edge_from_tiles(size: int, tiles: Mapping[Tile, bytes]) -> Edge:
    """The right edge of a tree of ``size``, and with it its root.

    Raises TileError where one of :func:`tiles_for_edge` is missing or short.
    """
    return Edge(size, [_hash(span, size, tiles) for span in _perfect((0, size))])


def _tiles(spans: Iterable[Span], size: int) -> tuple[Tile, ...]:
    """Each tile once, from the leaves upwards, from the left."""
    places = {_place(part)[:2] for span in spans for part in _perfect(span)}
    return tuple(tile_in(size, level, index) for level, index in sorted(places))


def _hash(span: Span, size: int, tiles: Mapping[Tile, bytes]) -> bytes:
    return fold([_perfect_hash(part, size, tiles) for part in _perfect(span)])


def _perfect_hash(span: Span, size: int, tiles: Mapping[Tile, bytes]) -> bytes:
    level, index, first, count = _place(span)
    tile = tile_in(size, level, index)
    data = tiles.get(tile)
    if data is None:
        raise TileError(f"{tile.path()} is needed and missing")
    if len(data) < tile.width * HASH_BYTES:
        raise TileError(f"{tile.path()} has {len(data)} bytes, too few for {tile.width} hashes")
    return _run_root(data[first * HASH_BYTES : (first + count) * HASH_BYTES])


def _place(span: Span) -> tuple[int, int, int, int]:
    """Where the hashes of a perfect subtree lie: level, tile, first of them, how many."""
    start, end = span
    height = (end - start).bit_length() - 1
    level = height // 8
    index, first = divmod(start >> TILE_HEIGHT * level, TILE_WIDTH)
    return level, index, first, 1 << height % 8


def _perfect(span: Span) -> list[Span]:
    if span[1] > MAX_SIZE:
        raise TileError(f"no tree has {span[1]} leaves")
    return perfect_spans(*span)


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
