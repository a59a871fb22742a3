"""The reads of evidence bundles: the checkpoints and anchors that cover their entries."""

from __future__ import annotations

from typing import Final

from ledger.storage.database import Database
from ledger.storage.trees import StoredCheckpoint

FIRST_ANCHORED_ABOVE: Final = """
SELECT c.size, c.root, c.note, c.signed_at
FROM (SELECT size FROM anchor_leaves
      WHERE org_id = $1 AND size > $2 AND idx < (SELECT size FROM trees WHERE org_id = 0)
      ORDER BY size, idx LIMIT 1) AS l
JOIN checkpoints c ON c.org_id = $1 AND c.size = l.size"""
# Every later anchor includes the leaf too, so the first anchor with an external time is the best
# evidence. Attestations of anchors that are missing are ignored.
ATTESTED_ANCHOR: Final = """
SELECT size, root, note, signed_at FROM checkpoints
WHERE org_id = 0 AND size = coalesce(
    (SELECT t.size FROM anchor_tokens t
     JOIN checkpoints c ON c.org_id = 0 AND c.size = t.size
     WHERE t.size > $1 ORDER BY t.size LIMIT 1),
    (SELECT s.size FROM anchor_cosignatures s
     JOIN checkpoints c ON c.org_id = 0 AND c.size = s.size
     WHERE s.size > $1 ORDER BY s.size LIMIT 1),
    (SELECT size FROM checkpoints WHERE org_id = 0 AND size > $1 ORDER BY size LIMIT 1))"""
COSIGNED_ANCHORS: Final = """
SELECT c.size, c.root, c.note, c.signed_at, EXISTS (SELECT FROM anchor_tokens t WHERE t.size = c.size)
FROM (SELECT DISTINCT s.size FROM anchor_cosignatures s WHERE s.size > $1 ORDER BY s.size LIMIT $2) a
JOIN checkpoints c ON c.org_id = 0 AND c.size = a.size ORDER BY c.size"""


async def first_anchored_above(
    database: Database, org_id: int, seq: int
) -> StoredCheckpoint | None:
    """Return the smallest anchored checkpoint that includes this entry."""
    row = await database.fetchrow(FIRST_ANCHORED_ABOVE, org_id, seq)
    return None if row is None else StoredCheckpoint(*row)


async def attested_anchor(database: Database, index: int) -> StoredCheckpoint | None:
    """Return the first anchor with this leaf that is timestamped, else cosigned, else any."""
    row = await database.fetchrow(ATTESTED_ANCHOR, index)
    return None if row is None else StoredCheckpoint(*row)


async def cosigned_anchors(
    database: Database, index: int, limit: int
) -> list[tuple[StoredCheckpoint, bool]]:
    """Return the first cosigned anchors with this leaf, and whether each is timestamped."""
    rows = await database.fetch(COSIGNED_ANCHORS, index, limit)
    return [(StoredCheckpoint(*row[:4]), row[4]) for row in rows]
