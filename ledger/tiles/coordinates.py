"""Coordinates of tiles and entry bundles, and their paths (C2SP tlog-tiles)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from ledger.errors import TileError
from ledger.merkle import HASH_BYTES, MAX_SIZE, TILE_HEIGHT, TILE_WIDTH

MAX_TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES
MAX_LEVEL: Final = 63
MAX_INDEX: Final = MAX_SIZE // TILE_WIDTH
"""Index of the last tile of level 0 that a tree can have."""

_PATH: Final = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)


class Tile(msgspec.Struct, frozen=True):
    """A tile: the leftmost ``width`` hashes of a row of 256, each over 256**level leaves."""

    level: int
    index: int
    width: int = TILE_WIDTH

    def path(self) -> str:
        """Return the path, as ``tile/0/x001/067.p/5``. Raises TileError for invalid coordinates."""
        if not 0 <= self.level <= MAX_LEVEL:
            raise TileError(f"the tile level must be 0 to {MAX_LEVEL}, not {self.level}")
        return f"tile/{self.level}/{_numbered(self.index, self.width)}"

    def full(self) -> Tile:
        """Return the full tile at the same place, which exists once the log has grown enough."""
        return Tile(self.level, self.index)


class EntryTile(msgspec.Struct, frozen=True):
    """A bundle of ``width`` entries: the entries of the level 0 tile with the same index."""

    index: int
    width: int = TILE_WIDTH

    def path(self) -> str:
        """Return the path, as ``tile/entries/x001/067.p/5``. Raises TileError."""
        return f"tile/entries/{_numbered(self.index, self.width)}"

    def full(self) -> EntryTile:
        """Return the full bundle at the same place, which exists once the log has grown enough."""
        return EntryTile(self.index)

    @property
    def start(self) -> int:
        """Index of the first entry in the log."""
        return self.index * TILE_WIDTH


def parse_path(path: str) -> Tile | EntryTile:
    """Parse a path, relative to the log's prefix, as a tile or bundle.

    Raises TileError for every spelling but the standard's.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        raise TileError(f"{path[:80]!r} is not the path of a tile or an entry bundle")
    kind, number, partial = match.groups()
    index = int(number.replace("x", "").replace("/", ""))
    width = int(partial) if partial else TILE_WIDTH
    tile = EntryTile(index, width) if kind == "entries" else Tile(int(kind), index, width)
    if tile.path() != path:
        raise TileError(f"{path!r} is not in canonical form; request {tile.path()!r}")
    return tile


def tile_in(size: int, level: int, index: int) -> Tile:
    """Return a tile at its width in a tree of ``size``.

    Raises TileError if that tree has no such tile.
    """
    hashes = size >> TILE_HEIGHT * level if 0 <= level <= MAX_LEVEL else 0
    if not 0 <= index * TILE_WIDTH < hashes:
        raise TileError(f"a tree of {size} leaves has no tile {index} at level {level}")
    return Tile(level, index, min(TILE_WIDTH, hashes - index * TILE_WIDTH))


def tiles_of(size: int) -> Iterator[Tile]:
    """Yield every tile of a tree, level by level from the leaves, each from the left."""
    level = 0
    while hashes := size >> TILE_HEIGHT * level:
        for start in range(0, hashes, TILE_WIDTH):
            yield Tile(level, start // TILE_WIDTH, min(TILE_WIDTH, hashes - start))
        level += 1


def bundles_of(size: int) -> Iterator[EntryTile]:
    """Yield every entry bundle of a log of ``size`` entries, in order."""
    for start in range(0, size, TILE_WIDTH):
        yield EntryTile(start // TILE_WIDTH, min(TILE_WIDTH, size - start))


def by_tile(first: int, last: int) -> Iterator[tuple[int, range]]:
    """Cut leaves ``first`` to ``last`` by the tiles of level 0: each tile's index, its leaves."""
    while first <= last:
        index = first // TILE_WIDTH
        end = min(last + 1, (index + 1) * TILE_WIDTH)
        yield index, range(first, end)
        first = end


def _numbered(index: int, width: int) -> str:
    if not 0 <= index <= MAX_INDEX:
        raise TileError(f"the tile index must be 0 to {MAX_INDEX}, not {index}")
    if not 1 <= width <= TILE_WIDTH:
        raise TileError(f"the tile width must be 1 to {TILE_WIDTH}, not {width}")
    path = f"{index % 1000:03}"
    while index := index // 1000:
        path = f"x{index % 1000:03}/{path}"
    return path if width == TILE_WIDTH else f"{path}.p/{width}"
