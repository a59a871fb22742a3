"""The reads of evidence bundles: entries, and the checkpoints and anchors that cover them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from ledger.chain import StoredEntry
from ledger.entry import RecordId, to_datetime
from ledger.storage.database import Database
from ledger.storage.search import PAGE_BYTES
from ledger.storage.trail import ENTRY_COLUMNS
from ledger.storage.trees import StoredCheckpoint

# LATERAL with LIMIT pins the plan: one primary key probe for each (seq, time).
PRESENT: Final = """
SELECT w.seq FROM unnest($2::bigint[], $3::timestamptz[]) AS w (seq, anchored_at)
CROSS JOIN LATERAL (
    SELECT FROM entries e
    WHERE e.org_id = $1 AND e.seq = w.seq AND e.anchored_at = w.anchored_at LIMIT 1
) AS present"""
# OFFSET pins the plan too, and returns both rows if two have the same seq. Before version 17
# PostgreSQL may read all entries of an org to find a few by `seq = ANY (...)`.
TIMES: Final = """
SELECT e.seq, e.anchored_at FROM (SELECT DISTINCT unnest($2::bigint[]) AS seq) AS w
CROSS JOIN LATERAL (
    SELECT seq, anchored_at FROM entries WHERE org_id = $1 AND seq = w.seq OFFSET 0
) AS e"""
# The times limit the partitions to search. The sizes of payloads are known without
# reading them, so that large payloads end a batch before they are in memory.
ENTRIES: Final = f"""
SELECT {ENTRY_COLUMNS} FROM (
    SELECT e.*, sum(octet_length(payload)) OVER (ORDER BY w.seq) - octet_length(payload) AS bytes
    FROM (SELECT DISTINCT unnest($2::bigint[]) AS seq) AS w
    CROSS JOIN LATERAL (
        SELECT * FROM entries
        WHERE org_id = $1 AND seq = w.seq AND anchored_at >= $3 AND anchored_at <= $4 OFFSET 0
    ) AS e
) AS sized WHERE bytes < {PAGE_BYTES} ORDER BY seq"""
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


async def present(database: Database, org_id: int, places: Sequence[RecordId]) -> set[int]:
    """Return the seqs of the given places at which an entry is stored."""
    times = [to_datetime(place.anchored_us) for place in places]
    rows = await database.fetch(PRESENT, org_id, [place.seq for place in places], times)
    return {row[0] for row in rows}


async def times(database: Database, org_id: int, seqs: Sequence[int]) -> dict[int, datetime]:
    """Return the anchoring times of the entries with these few seqs; missing ones are left out."""
    return {row[0]: row[1] for row in await database.fetch(TIMES, org_id, list(seqs))}


async def entries(
    database: Database, org_id: int, seqs: Sequence[int], since: datetime, until: datetime
) -> list[StoredEntry]:
    """Return the first of these entries by ascending seq; fewer of them if they are large.

    All must have been anchored between ``since`` and ``until``, both included.
    """
    rows = await database.fetch(ENTRIES, org_id, list(seqs), since, until)
    return [StoredEntry(*row) for row in rows]


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
