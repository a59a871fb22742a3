"""Tiles above level 0, as the tiles below make them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from ledger.core.verification.work.tree_part import TILE_HASHES
from ledger.merkle import HASH_BYTES

TILE_HEIGHT: Final = 8
"""Tree levels from one level of tiles to the next."""


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
        while len(self._ours) >= TILE_HASHES:
            yield self._tile()

    def end(self) -> Iterator[UpperTile]:
        """The tile that is not whole, if there is one."""
        if self._ours:
            yield self._tile()

    def _tile(self) -> UpperTile:
        tile = UpperTile(
            self._level,
            self._index,
            b"".join(self._ours[:TILE_HASHES]),
            b"".join(self._stored[:TILE_HASHES]),
        )
        self._index += 1
        del self._ours[:TILE_HASHES], self._stored[:TILE_HASHES]
        return tile
