"""Proofs made from tiles: the tiles that a proof needs, and the proof from their bytes.

Tiles are named at their width in the tree of the proof. Their bytes may be those
of a wider tile, from a tree that has grown since; bytes beyond the width are
ignored.
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
"""Number of cached roots of parts of tiles, with at most 4 KiB each: most proofs use the
same few upper tiles and the newest tiles of leaves."""
_run_root = lru_cache(maxsize=CACHED_RUNS)(perfect_root)


def tiles_for_inclusion(index: int, size: int) -> tuple[Tile, ...]:
    """Return the tiles that the proof of leaf ``index`` in a tree of ``size`` needs.

    Raises MerkleError if the tree has no leaf ``index``.
    """
    return _tiles(inclusion_spans(index, size), size)


def inclusion_proof(index: int, size: int, tiles: Mapping[Tile, bytes]) -> list[bytes]:
    """Return the proof of leaf ``index`` in a tree of ``size``, its sibling first.

    Raises MerkleError if the tree has no leaf ``index``, TileError if a tile of
    :func:`tiles_for_inclusion` is missing or too short.
    """
    return [_hash(span, size, tiles) for span in inclusion_spans(index, size)]


def tiles_for_consistency(size1: int, size2: int) -> tuple[Tile, ...]:
    """Return the tiles that the consistency proof from ``size1`` to ``size2`` needs.

    Raises MerkleError if ``size1`` is 0, which needs no proof, or larger than ``size2``.
    """
    return _tiles(consistency_spans(0, size1, size2), size2)


def consistency_proof(size1: int, size2: int, tiles: Mapping[Tile, bytes]) -> list[bytes]:
    """Return the proof that the tree of ``size2`` extends the tree of ``size1``.

    Raises MerkleError as :func:`tiles_for_consistency` does, TileError if one of
    its tiles is missing or too short.
    """
    return [_hash(span, size2, tiles) for span in consistency_spans(0, size1, size2)]


def tiles_for_edge(size: int) -> tuple[Tile, ...]:
    """Return the tiles that hold the right edge: the partial tile of each level."""
    return _tiles([(0, size)], size)


def edge_from_tiles(size: int, tiles: Mapping[Tile, bytes]) -> Edge:
    """Return the right edge of a tree of ``size``, which gives its root.

    Raises TileError if a tile of :func:`tiles_for_edge` is missing or too short.
    """
    return Edge(size, [_hash(span, size, tiles) for span in _perfect((0, size))])


def _tiles(spans: Iterable[Span], size: int) -> tuple[Tile, ...]:
    """Return each tile once, from the leaves upwards, from the left."""
    places = {_place(part)[:2] for span in spans for part in _perfect(span)}
    return tuple(tile_in(size, level, index) for level, index in sorted(places))


def _hash(span: Span, size: int, tiles: Mapping[Tile, bytes]) -> bytes:
    return fold([_perfect_hash(part, size, tiles) for part in _perfect(span)])


def _perfect_hash(span: Span, size: int, tiles: Mapping[Tile, bytes]) -> bytes:
    level, index, first, count = _place(span)
    tile = tile_in(size, level, index)
    data = tiles.get(tile)
    if data is None:
        raise TileError(f"{tile.path()} is missing")
    if len(data) < tile.width * HASH_BYTES:
        raise TileError(f"{tile.path()} has {len(data)} bytes, too few for {tile.width} hashes")
    return _run_root(data[first * HASH_BYTES : (first + count) * HASH_BYTES])


def _place(span: Span) -> tuple[int, int, int, int]:
    """Locate the hashes of a perfect subtree: level, tile index, first hash, number of hashes."""
    start, end = span
    height = (end - start).bit_length() - 1
    level = height // 8
    index, first = divmod(start >> TILE_HEIGHT * level, TILE_WIDTH)
    return level, index, first, 1 << height % 8


def _perfect(span: Span) -> list[Span]:
    if span[1] > MAX_SIZE:
        raise TileError(f"a tree has at most {MAX_SIZE} leaves, not {span[1]}")
    return perfect_spans(*span)


def tiles_for_proofs(index: int, size: int) -> tuple[Tile, ...]:
    """Return the tiles that the proofs of all leaves of level 0 tile ``index`` need.

    Raises TileError if a tree of ``size`` has no such tile.
    """
    own = tile_in(size, 0, index)
    return tuple({own, *tiles_for_inclusion(index * TILE_WIDTH, size)})


class TileProofs:
    """Proves the leaves of one level 0 tile in a tree of ``size``.

    ``tiles`` holds the tiles of :func:`tiles_for_proofs`. Raises TileError if one is
    missing or too short.
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
        """Verify every proof of this tile against the root of the tree. Raises MerkleError.

        One proof suffices: its hashes cover all leaves of the tile and all hashes that
        the tile's proofs share.
        """
        first = self._first
        verify_inclusion(first, self._size, self.leaf_hash(first), self.proof(first), root)

    def leaf_hash(self, index: int) -> bytes:
        """Return the hash of a leaf of this tile."""
        return self._levels[0][index - self._first]

    def proof(self, index: int) -> list[bytes]:
        """Return the inclusion proof of a leaf of this tile, its sibling first."""
        if self._above is None:  # the newest tile, not full yet
            return inclusion_proof(index, self._size, self._tiles)
        at = index - self._first
        return [*(row[at >> height ^ 1] for height, row in enumerate(self._levels)), *self._above]
