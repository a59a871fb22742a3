"""Single resources of a log for tlog-tiles: a tile, or a bundle of entries.

Nothing is computed: hashes and leaves are returned as stored. None means that the
signed tree does not have the resource, or not yet.
"""

from __future__ import annotations

from ledger.entry import HASH_BYTES
from ledger.storage.database import Database
from ledger.storage.entries import spans
from ledger.storage.entries.blocks import DamagedTrail
from ledger.storage.trees import ANCHOR_LOG, join_parts
from ledger.tiles import Tile

TILE = """
SELECT level, tile, start, hashes FROM tile_parts
WHERE org_id = $1 AND level = $2 AND tile = $3 AND start < $4 ORDER BY start LIMIT 256"""
ANCHOR_LEAVES = """
SELECT idx, leaf FROM anchor_leaves
WHERE idx >= $2 AND idx < $3 AND $3 <= (SELECT size FROM trees WHERE org_id = $1)
ORDER BY idx"""


async def tile(database: Database, org_id: int, tile: Tile) -> bytes | None:
    """Return the hashes of one tile at its width."""
    rows = await database.fetch(TILE, org_id, tile.level, tile.index, tile.width)
    data = join_parts(rows).get((tile.level, tile.index), b"")
    size = tile.width * HASH_BYTES
    return data[:size] if len(data) >= size else None


async def leaves(database: Database, org_id: int, first: int, count: int) -> list[bytes] | None:
    """Return the leaves ``first`` to ``first + count - 1`` of a log. Raises DamagedTrail."""
    if org_id == ANCHOR_LOG:
        rows = await database.fetch(ANCHOR_LEAVES, org_id, first, first + count)
        found = [(row[0], row[1]) for row in rows]
    else:
        found = await spans.signed_leaves(database, org_id, first, first + count)
    if not found:
        return None
    if [seq for seq, _ in found] != list(range(first, first + count)):
        raise DamagedTrail(
            f"of entries {first} to {first + count - 1}, which are signed, some are missing or "
            "stored twice. Run a full verification of this trail"
        )
    return [leaf for _, leaf in found]
