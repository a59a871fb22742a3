"""The growth of a tree since it was last archived, proved before any byte of it is written.

The stored hashes of the new leaves, appended to the archived edge, must lead to the root of a
checkpoint that the log's own key signed. Tiles are made from these hashes and entries are
compared with them: only signed data is written to locked storage, whatever the tables hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ledger.archive.format.log import ArchivedLog
from ledger.errors import ArchiveRefused, FormatError, MerkleError
from ledger.merkle import HASH_BYTES, TILE_HEIGHT, Edge
from ledger.storage import archive_accounts, trees
from ledger.storage.database import Database
from ledger.storage.trees import MissingTile
from ledger.tiles import TILE_WIDTH, Tile, edge_from_tiles, tile_in, tiles_for_edge

REACH: Final = 1 << 17
"""The most entries of one account, unless the next checkpoint is further: 4 MiB of hashes."""
TILES_AT_ONCE: Final = 64


@dataclass(frozen=True)
class TreeGrowth:
    """The tree's growth from ``start`` to ``size``; ``tiles`` are the new and the widened tiles."""

    start: int
    size: int
    root: bytes
    note: bytes
    signed_at: datetime
    tiles: dict[Tile, bytes]

    def bundles(self) -> Iterator[tuple[Tile, bytes]]:
        """Yield the level 0 tiles that grew, in order, with their hashes."""
        for index in range(self.start // TILE_WIDTH, -(-self.size // TILE_WIDTH)):
            tile = tile_in(self.size, 0, index)
            yield tile, self.tiles[tile]


async def growth_of(
    database: Database, log: ArchivedLog, size: int, root: bytes, reach: int = REACH
) -> TreeGrowth | None:
    """Return a log's growth beyond an archived size and root; None where it did not grow.

    Raises ArchiveRefused where the stored tree differs from the signed one.
    """
    row = await archive_accounts.next_checkpoint(database, log.org_id, size, reach)
    if row is None:
        return None
    checkpoint = log.opened(row.note, row.size)
    assert row.note is not None
    try:
        tiles, edge = await _edge(database, log, size)
        if size and edge.root() != root:
            raise _wrong_root(log, size)
        hashes = await _leaf_hashes(database, log, size, row.size)
        new = edge.extend(hashes)
    except (MissingTile, FormatError, MerkleError) as error:
        raise ArchiveRefused(
            f"the tree of {log.prefix} can't be read: {error}. Run a full verification of it"
        ) from error
    if edge.root() != checkpoint.root:
        raise _wrong_root(log, row.size)
    grown = _grown_tiles(size, row.size, tiles, new)
    return TreeGrowth(size, row.size, checkpoint.root, row.note, row.signed_at, grown)


def _wrong_root(log: ArchivedLog, size: int) -> ArchiveRefused:
    return ArchiveRefused(
        f"the stored tiles of {log.prefix} do not lead to the root signed at size {size}. Run a "
        "full verification of this trail"
    )


async def _edge(database: Database, log: ArchivedLog, size: int) -> tuple[dict[Tile, bytes], Edge]:
    tiles = await trees.tiles(database, log.org_id, tiles_for_edge(size)) if size else {}
    return tiles, edge_from_tiles(size, tiles) if size else Edge()


async def _leaf_hashes(database: Database, log: ArchivedLog, size: int, until: int) -> list[bytes]:
    """Read the stored hashes of leaves ``size`` to ``until - 1``."""
    hashes: list[bytes] = []
    last = -(-until // TILE_WIDTH)
    for first in range(size // TILE_WIDTH, last, TILES_AT_ONCE):
        some = range(first, min(first + TILES_AT_ONCE, last))
        tiles = [tile_in(until, 0, index) for index in some]
        found = await trees.tiles(database, log.org_id, tiles)
        data = b"".join(found[tile] for tile in tiles)
        skip = max(size - first * TILE_WIDTH, 0)
        starts = range(skip * HASH_BYTES, len(data), HASH_BYTES)
        hashes += [data[at : at + HASH_BYTES] for at in starts]
    return hashes


def _grown_tiles(
    size: int, until: int, before: dict[Tile, bytes], new: dict[int, list[bytes]]
) -> dict[Tile, bytes]:
    """Return each tile that got new hashes, with all its hashes."""
    grown: dict[Tile, bytes] = {}
    for level, hashes in new.items():
        index, within = divmod(size >> TILE_HEIGHT * level, TILE_WIDTH)
        data = b"".join(hashes)
        if within:
            data = before[tile_in(size, level, index)] + data
        for at in range(0, len(data), TILE_WIDTH * HASH_BYTES):
            tile = tile_in(until, level, index + at // (TILE_WIDTH * HASH_BYTES))
            grown[tile] = data[at : at + tile.width * HASH_BYTES]
    return grown
