"""The history of signed trees for lists and proofs: checkpoints and anchors."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from ledger.storage.database import Database
from ledger.storage.entries.search import IN_ORDER
from ledger.storage.trees import StoredCheckpoint

LISTED = """
SELECT c.size, c.root, c.note, c.signed_at,
       (SELECT a.idx FROM anchor_leaves a WHERE a.org_id = c.org_id AND a.size = c.size
          AND a.idx < (SELECT size FROM trees WHERE org_id = 0) ORDER BY a.idx LIMIT 1)
FROM checkpoints c WHERE c.org_id = $1 AND c.size < $2 ORDER BY c.size DESC LIMIT $3"""
NEWEST_ANCHORED = """
SELECT c.size, c.root, c.note, c.signed_at
FROM (SELECT size FROM anchor_leaves
      WHERE org_id = $1 AND idx < (SELECT size FROM trees WHERE org_id = 0)
      ORDER BY size DESC LIMIT 1) AS l
JOIN checkpoints c ON c.org_id = $1 AND c.size = l.size"""
SIZES = "SELECT org_id, size FROM trees WHERE org_id = ANY ($1::bigint[])"


class ListedCheckpoint(NamedTuple):
    """A checkpoint with the first leaf of the anchor log that commits to it; None: not anchored."""

    size: int
    root: bytes
    note: bytes
    signed_at: datetime
    anchor_index: int | None


async def listed(database: Database, org_id: int, below: int, limit: int) -> list[ListedCheckpoint]:
    """Return the checkpoints smaller than ``below``, newest first."""
    async with database.transaction() as connection:
        await connection.execute(IN_ORDER)
        return [
            ListedCheckpoint(*row) for row in await connection.fetch(LISTED, org_id, below, limit)
        ]


async def newest_anchored(database: Database, org_id: int) -> StoredCheckpoint | None:
    """Return the newest checkpoint that a signed anchor commits to, or None before the first."""
    row = await database.fetchrow(NEWEST_ANCHORED, org_id)
    return None if row is None else StoredCheckpoint(*row)


async def sizes(database: Database, org_ids: Collection[int]) -> dict[int, int]:
    """Return the sizes of the signed trees of these orgs; orgs without a tree are left out."""
    return {row[0]: row[1] for row in await database.fetch(SIZES, list(org_ids))}
