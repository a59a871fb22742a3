"""A log that lies somewhere as files: read by path, proofs made from what is there.

Nothing here is verified; a proof made from changed tiles is refused by whoever
verifies it. :func:`ledger.tiles.verify_log` checks a log as a whole.
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
"""The bytes at a path below the log's prefix, None where nothing is.

It bounds what it reads: tiles have at most ``MAX_TILE_BYTES``, bundles
``MAX_BUNDLE_BYTES``, and gzip makes neither longer by more than a little.
"""


class StaticLog:
    """A log of ``size`` entries behind a function that reads its files."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._size = size

    def tile(self, tile: Tile) -> bytes:
        """The hashes of a tile, exactly as wide as asked. Raises TileError."""
        width, data = self._file(tile, tile_in(self._size, tile.level, tile.index))
        return check_tile(data, width)[: tile.width * HASH_BYTES]

    def entries(self, bundle: EntryTile) -> list[bytes]:
        """The entries of a bundle, exactly as many as asked. Raises TileError."""
        stored = EntryTile(bundle.index, tile_in(self._size, 0, bundle.index).width)
        width, data = self._file(bundle, stored)
        return read_bundle(data, width)[: bundle.width]

    def edge(self, size: int | None = None) -> Edge:
        """The right edge when the log had ``size`` entries, now by default.

        Raises TileError where a tile can't be had.
        """
        size = self._size if size is None else size
        return edge_from_tiles(size, self._tiles(tiles_for_edge(size)))

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """Raises MerkleError where there is no such entry, TileError for a tile not to be had."""
        size = self._size if size is None else size
        return inclusion_proof(index, size, self._tiles(tiles_for_inclusion(index, size)))

    def consistency_proof(self, size1: int, size2: int | None = None) -> list[bytes]:
        """Raises MerkleError where ``size1`` can't be proved, TileError for a tile not to be had."""
        size2 = self._size if size2 is None else size2
        return consistency_proof(size1, size2, self._tiles(tiles_for_consistency(size1, size2)))

    def _tiles(self, tiles: Iterable[Tile]) -> dict[Tile, bytes]:
        return {tile: self.tile(tile) for tile in tiles}

    def _file(self, asked: Tile | EntryTile, stored: Tile | EntryTile) -> tuple[int, bytes]:
        """Width and bytes of the file; of the full one where a log that grew dropped the partial."""
        if asked.width > stored.width:
            raise TileError(f"a log of {self._size} entries has no {asked.path()}")
        for unit in dict.fromkeys((stored, stored.full())):
            data = self._read(unit.path())
            if data is not None:
                return unit.width, data
        raise TileError(f"{stored.path()} is missing")


def check_tile(data: bytes, width: int) -> bytes:
    """The bytes of a tile, when they are as many as it is wide. Raises TileError."""
    if len(data) != width * HASH_BYTES:
        raise TileError(f"the tile has {len(data)} bytes instead of {width * HASH_BYTES}")
    return data
