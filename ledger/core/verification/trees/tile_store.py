"""Tiles of one tree as proofs need them, read once each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ledger.storage.tree_out import TreeReader
from ledger.tiles import Tile

MAX_KEPT: Final = 1_024
"""Tiles that are kept, of at most 8 KiB each."""


class TileStore:
    """Reads tiles of an org's tree; a tile that is not stored reads as no bytes."""

    def __init__(self, org_id: int) -> None:
        self._org_id = org_id
        self._kept: dict[tuple[int, int], bytes] = {}

    async def get(self, trees: TreeReader, wanted: Iterable[Tile]) -> dict[Tile, bytes]:
        """These tiles as they are stored, which may be wider or shorter than they are named."""
        tiles = list(wanted)
        for tile in tiles:
            await self.load(trees, tile.level, tile.index, tile.index)
        return {tile: self._kept[tile.level, tile.index] for tile in tiles}

    async def load(self, trees: TreeReader, level: int, first: int, last: int) -> None:
        """Read tiles that lie side by side and are not kept yet."""
        if all((level, index) in self._kept for index in range(first, last + 1)):
            return
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        stored = await trees.tiles(self._org_id, level, first, last)
        for index in range(first, last + 1):
            self._kept[level, index] = stored.get(index, b"")
