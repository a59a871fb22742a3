"""A log stored as files: files are read by path, and proofs are made from tiles.

Nothing is verified here: verifying a proof made from altered tiles fails.
:func:`ledger.tiles.verify_log` verifies a whole log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ledger.errors import TileError
from ledger.merkle import HASH_BYTES, Edge
from ledger.tiles.bundles import read_bundle
from ledger.tiles.coordinates import EntryTile, Tile, tile_in
from ledger.tiles.proofs import (
    consistency_proof,
    edge_from_tiles,
    inclusion_proof,
    tiles_for_consistency,
    tiles_for_edge,
    tiles_for_inclusion,
)

Read = Callable[[str], bytes | None]
"""Returns the bytes at a path below the log's prefix, None if there is no file.

The function must limit the size: tiles have at most ``MAX_TILE_BYTES``, bundles
``MAX_BUNDLE_BYTES``; gzip adds only a few bytes.
"""


class StaticLog:
    """A log of ``size`` entries, whose files a function reads."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._size = size

    def tile(self, tile: Tile) -> bytes:
        """Return the hashes of a tile, exactly ``tile.width`` of them. Raises TileError."""
        width, data = self._file(tile, tile_in(self._size, tile.level, tile.index))
        return check_tile(data, width)[: tile.width * HASH_BYTES]

    def entries(self, bundle: EntryTile) -> list[bytes]:
        """Return the entries of a bundle, exactly ``bundle.width`` of them. Raises TileError."""
        stored = EntryTile(bundle.index, tile_in(self._size, 0, bundle.index).width)
        width, data = self._file(bundle, stored)
        return read_bundle(data, width)[: bundle.width]

    def edge(self, size: int | None = None) -> Edge:
        """Return the right edge of the log at ``size`` entries; default: its present size.

        Raises TileError for a missing or malformed tile.
        """
        size = self._size if size is None else size
        return edge_from_tiles(size, self._tiles(tiles_for_edge(size)))

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """Prove an entry. Raises MerkleError without such an entry, TileError for a bad tile."""
        size = self._size if size is None else size
        return inclusion_proof(index, size, self._tiles(tiles_for_inclusion(index, size)))

    def consistency_proof(self, size1: int, size2: int | None = None) -> list[bytes]:
        """Prove ``size1``. Raises MerkleError for an impossible size, TileError for a bad tile."""
        size2 = self._size if size2 is None else size2
        return consistency_proof(size1, size2, self._tiles(tiles_for_consistency(size1, size2)))

    def _tiles(self, tiles: Iterable[Tile]) -> dict[Tile, bytes]:
        return {tile: self.tile(tile) for tile in tiles}

    def _file(self, unit: Tile | EntryTile, stored: Tile | EntryTile) -> tuple[int, bytes]:
        """Return a file's width and bytes: the full file if a grown log dropped the partial one."""
        if unit.width > stored.width:
            raise TileError(f"a log of {self._size} entries has no {unit.path()}")
        for candidate in dict.fromkeys((stored, stored.full())):
            data = self._read(candidate.path())
            if data is not None:
                return candidate.width, data
        raise TileError(f"{stored.path()} is missing")


def check_tile(data: bytes, width: int) -> bytes:
    """Return a tile's bytes if they have the size for its width. Raises TileError."""
    if len(data) != width * HASH_BYTES:
        raise TileError(f"the tile has {len(data)} bytes instead of {width * HASH_BYTES}")
    return data
