"""Single resources of a log for tlog-tiles: a tile, or a bundle of entries.

Nothing is computed: hashes and leaves are returned as stored. None means that the
signed tree does not have the resource, or not yet.
"""

from __future__ import annotations

from ledger.entry import HASH_BYTES
from ledger.errors import StorageError
from ledger.storage.database import Database
from ledger.storage.trees import ANCHOR_LOG, join_parts
from ledger.tiles import Tile

TILE = """
SELECT level, tile, start, hashes FROM tile_parts
WHERE org_id = $1 AND level = $2 AND tile = $3 AND start < $4 ORDER BY start LIMIT 256"""
# A trail is usually longer than its signed tree: only leaves inside the tree are returned.
LEAVES = """
SELECT seq, leaf FROM entries
WHERE org_id = $1 AND seq >= $2 AND seq < $3
  AND $3 <= (SELECT size FROM trees WHERE org_id = $1)
ORDER BY seq, anchored_at LIMIT 257"""
ANCHOR_LEAVES = """
SELECT idx, leaf FROM anchor_leaves
WHERE idx >= $2 AND idx < $3 AND $3 <= (SELECT size FROM trees WHERE org_id = $1)
ORDER BY idx"""


class DamagedTrail(StorageError):
    """Entries that a signed tree commits to are missing, or stored twice."""


async def tile(database: Database, org_id: int, tile: Tile) -> bytes | None:
    """Return the hashes of one tile at its width."""
    rows = await database.fetch(TILE, org_id, tile.level, tile.index, tile.width)
    data = join_parts(rows).get((tile.level, tile.index), b"")
    size = tile.width * HASH_BYTES
    return data[:size] if len(data) >= size else None


async def leaves(database: Database, org_id: int, first: int, count: int) -> list[bytes] | None:
    """Return the leaves ``first`` to ``first + count - 1`` of a log. Raises DamagedTrail."""
    query = ANCHOR_LEAVES if org_id == ANCHOR_LOG else LEAVES
    rows = await database.fetch(query, org_id, first, first + count)
    if not rows:
        return None
    if [row[0] for row in rows] != list(range(first, first + count)):
        raise DamagedTrail(
            f"of entries {first} to {first + count - 1} of org number {org_id}, which are signed, "
            "some are missing or stored twice. Run a full verification of this trail"
        )
    return [row[1] for row in rows]
