"""One entry: by record id, or by seq whatever its time."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from ledger.chain import StoredEntry
from ledger.entry import RecordId, to_datetime
from ledger.storage.database import Connection, Database
from ledger.storage.entries.columns import ENTRY_COLUMNS
from ledger.storage.trees import StoredCheckpoint

AT: Final = f"""
SELECT {ENTRY_COLUMNS} FROM entries WHERE org_id = $1 AND seq = $2 AND anchored_at = $3"""
BEFORE: Final = f"""
SELECT {ENTRY_COLUMNS} FROM entries WHERE org_id = $1 AND seq = $2 AND anchored_at <= $3
ORDER BY anchored_at DESC LIMIT 1"""
STANDING_AT: Final = f"""
SELECT {ENTRY_COLUMNS} FROM entries WHERE org_id = $1 AND seq = $2 AND anchored_at < '4253-01-01Z'
ORDER BY anchored_at LIMIT 1"""
COUNT_AT: Final = "SELECT count(*) FROM entries WHERE org_id = $1 AND seq = $2"
HASH_AND_CHECKPOINT: Final = """
SELECT e.entry_hash, c.size, c.root, c.note, c.signed_at
FROM entries e LEFT JOIN LATERAL (
    SELECT size, root, note, signed_at FROM checkpoints
    WHERE org_id = $1 AND size <= (SELECT size FROM trees WHERE org_id = $1)
    ORDER BY size DESC LIMIT 1
) AS c ON true
WHERE e.org_id = $1 AND e.seq = $2 AND e.anchored_at = $3"""


async def at(
    queries: Connection | Database, org_id: int, seq: int, anchored_at: datetime
) -> StoredEntry | None:
    """Return the entry at this seq and time, by primary key, or None."""
    row = await queries.fetchrow(AT, org_id, seq, anchored_at)
    return None if row is None else StoredEntry(*row)


async def entry(database: Database, place: RecordId) -> StoredEntry | None:
    """Return the entry of a record id, by primary key, or None."""
    return await at(database, place.org_id, place.seq, to_datetime(place.anchored_us))


async def standing_at(database: Database, org_id: int, seq: int) -> StoredEntry | None:
    """Return the entry at a seq, whatever its time; the earliest if there are several."""
    row = await database.fetchrow(STANDING_AT, org_id, seq)
    return None if row is None else StoredEntry(*row)


async def count_at(database: Database, org_id: int, seq: int) -> int:
    """Return the number of entries at a seq."""
    row = await database.fetchrow(COUNT_AT, org_id, seq)
    return 0 if row is None else int(row[0])


async def before(database: Database, this: StoredEntry) -> StoredEntry | None:
    """Return the entry one seq before this entry, or None."""
    row = await database.fetchrow(BEFORE, this.org_id, this.seq - 1, this.anchored_at)
    return None if row is None else StoredEntry(*row)


async def hash_and_checkpoint(
    database: Database, place: RecordId
) -> tuple[bytes, StoredCheckpoint | None] | None:
    """Return the stored hash of the entry of a record id, and its org's newest checkpoint."""
    row = await database.fetchrow(
        HASH_AND_CHECKPOINT, place.org_id, place.seq, to_datetime(place.anchored_us)
    )
    if row is None:
        return None
    entry_hash, *checkpoint = row
    return entry_hash, None if checkpoint[0] is None else StoredCheckpoint(*checkpoint)
