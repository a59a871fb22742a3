"""One entry: by record id, or by seq whatever its time.

A block of the trail holds seq n if it is the first that ends at n or later: in each partition one
range of the primary key, of at most 256 seqs. The functions raise DamagedTrail if an entry can't
be read.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from ledger.chain import StoredEntry
from ledger.entry import RecordId, entry_hash, to_datetime
from ledger.storage.database import Connection, Database
from ledger.storage.entries.blocks import DamagedTrail
from ledger.storage.entries.picked import parts
from ledger.storage.entries.picked.parts import ROW, row_of
from ledger.storage.trees import StoredCheckpoint

_HOLDS: Final = (
    "org_id = $1 AND last_seq >= $2 AND last_seq <= ($2::bigint | 255) AND first_seq <= $2"
)
# A time that Python's datetime can't hold was not written by Quire.
_POSSIBLE: Final = "AND anchored_at BETWEEN 'epoch' AND '4253-01-01Z'"
AT: Final = f"""
SELECT {ROW} FROM entries WHERE {_HOLDS} AND anchored_at = $3 ORDER BY last_seq LIMIT 1"""
BEFORE: Final = f"""
SELECT {ROW} FROM entries WHERE {_HOLDS} AND anchored_at <= $3 {_POSSIBLE}
ORDER BY last_seq, anchored_at DESC LIMIT 1"""
STANDING_AT: Final = f"""
SELECT {ROW} FROM entries WHERE {_HOLDS} {_POSSIBLE}
ORDER BY last_seq, anchored_at LIMIT 1"""
ENDS_BLOCK: Final = """
SELECT EXISTS (SELECT FROM entries WHERE org_id = $1 AND last_seq = $2 AND anchored_at = $3)"""
COUNT_AT: Final = f"SELECT count(*) FROM entries WHERE {_HOLDS}"
ROW_AND_CHECKPOINT: Final = f"""
SELECT {ROW.replace("payloads END", "NULL END")}, c.size, c.root, c.note, c.signed_at
FROM (
    SELECT * FROM entries WHERE {_HOLDS} AND anchored_at = $3 ORDER BY last_seq LIMIT 1
) AS entries LEFT JOIN LATERAL (
    SELECT size, root, note, signed_at FROM checkpoints
    WHERE org_id = $1 AND size <= (SELECT size FROM trees WHERE org_id = $1)
    ORDER BY size DESC LIMIT 1
) AS c ON true"""


async def at(
    queries: Connection | Database, org_id: int, seq: int, anchored_at: datetime
) -> StoredEntry | None:
    """Return the entry at this seq and time, by primary key, or None."""
    row = await queries.fetchrow(AT, org_id, seq, anchored_at)
    return None if row is None else await parts.entry(queries, row, seq)


async def entry(database: Database, place: RecordId) -> StoredEntry | None:
    """Return the entry of a record id, by primary key, or None."""
    return await at(database, place.org_id, place.seq, to_datetime(place.anchored_us))


async def stored_hash(
    queries: Connection | Database, org_id: int, seq: int, anchored_at: datetime
) -> bytes | None:
    """Return the stored hash of the entry at this seq and time, or None; no payload is read."""
    row = await queries.fetchrow(AT, org_id, seq, anchored_at)
    if row is None:
        return None
    found = row_of(row)
    if found.block.last_seq == seq:
        return found.block.last_hash
    record = await parts.record(queries, found, seq)
    return None if record is None else record.entry_hash


async def standing_at(database: Database, org_id: int, seq: int) -> StoredEntry | None:
    """Return the entry at a seq, whatever its time; the earliest if there are several."""
    row = await database.fetchrow(STANDING_AT, org_id, seq)
    return None if row is None else await parts.entry(database, row, seq)


async def count_at(queries: Connection | Database, org_id: int, seq: int) -> int:
    """Return the number of entries at a seq."""
    row = await queries.fetchrow(COUNT_AT, org_id, seq)
    return 0 if row is None else int(row[0])


async def before(database: Database, this: StoredEntry) -> StoredEntry | None:
    """Return the entry one seq before this entry, or None."""
    row = await database.fetchrow(BEFORE, this.org_id, this.seq - 1, this.anchored_at)
    return None if row is None else await parts.entry(database, row, this.seq - 1)


async def ends_block(database: Database, this: StoredEntry) -> bool:
    """Return whether an entry is the last of its block, so that the block has its hash."""
    row = await database.fetchrow(ENDS_BLOCK, this.org_id, this.seq, this.anchored_at)
    return row is not None and bool(row[0])


async def hash_and_checkpoint(
    database: Database, place: RecordId
) -> tuple[bytes, StoredCheckpoint | None] | None:
    """Return the hash of the entry of a record id, and its org's newest checkpoint.

    Raises DamagedTrail if the stored hash is not that of the leaf.
    """
    row = await database.fetchrow(
        ROW_AND_CHECKPOINT, place.org_id, place.seq, to_datetime(place.anchored_us)
    )
    if row is None:
        return None
    *values, size, root, note, signed_at = row
    record = await parts.record(database, row_of(values), place.seq)
    if record is None:
        return None
    if record.entry_hash != entry_hash(record.leaf):
        raise DamagedTrail(
            f"entry {place.seq} does not have its stored hash, so there is no proof of it. "
            "Run a full verification of this trail"
        )
    return record.entry_hash, None if size is None else StoredCheckpoint(
        size, root, note, signed_at
    )
