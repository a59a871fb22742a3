"""Heads of trails and the entries around them: what an append checks before it extends a trail.

The functions raise asyncpg's errors, but for :func:`head`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ledger.chain import ChainHead, StoredEntry
from ledger.entry import MAX_SEQ, from_datetime, to_datetime
from ledger.storage.database import Connection, Database
from ledger.storage.entries import single
from ledger.storage.entries.columns import ENTRY_COLUMNS

# A time that Python's datetime can't hold was not written by Quire.
HEAD: Final = """
SELECT seq, entry_hash,
       CASE WHEN anchored_at BETWEEN 'epoch' AND '4253-01-01Z' THEN anchored_at ELSE 'epoch' END
FROM heads WHERE org_id = $1"""
# Every process locks heads in the order of org_id, so that no two deadlock. A time
# that Python can't hold is read as NULL: one edited row must not fail the whole batch.
LOCK_HEADS: Final = """
SELECT h.org_id, h.seq, h.entry_hash,
       CASE WHEN h.anchored_at BETWEEN 'epoch' AND '4253-01-01Z' THEN h.anchored_at END,
       h.erasures, h.thawed_us, h.frozen_reason,
       e.org_id, e.seq, e.anchored_at, e.actor_tag, e.subject_tag, e.entry_hash,
       e.signature, e.leaf, e.payload
FROM heads h
LEFT JOIN entries e ON e.org_id = h.org_id AND e.seq = h.seq AND e.anchored_at = h.anchored_at
WHERE h.org_id = ANY ($1::bigint[])
ORDER BY h.org_id
FOR UPDATE OF h"""
ENTRIES_BETWEEN: Final = f"""
SELECT {ENTRY_COLUMNS} FROM entries
WHERE org_id = $1 AND seq > $2 AND seq <= $3 AND anchored_at >= $4 AND anchored_at <= $5
ORDER BY seq, anchored_at LIMIT $6"""
# LATERAL with LIMIT pins the plan: one primary key probe per org and partition.
ORGS_BEYOND: Final = f"""
SELECT w.org_id FROM unnest($1::bigint[], $2::bigint[]) AS w (org_id, seq)
CROSS JOIN LATERAL (
    SELECT FROM entries e WHERE e.org_id = w.org_id AND e.seq > w.seq AND e.seq < {MAX_SEQ} LIMIT 1
) AS beyond"""
NEWEST: Final = f"""
SELECT {ENTRY_COLUMNS} FROM entries WHERE org_id = $1 AND seq BETWEEN 0 AND $2
ORDER BY seq DESC, anchored_at DESC LIMIT 1"""

IMPOSSIBLE_US: Final = -1


class LockedHead(NamedTuple):
    """A locked head row, with the stored entry that it points to (None if absent).

    ``head.anchored_us`` is :data:`IMPOSSIBLE_US` if Quire can't have written the row's time.
    """

    head: ChainHead
    erasures: int
    thawed_us: int
    frozen_reason: str | None
    entry: StoredEntry | None


async def head(database: Database, org_id: int) -> tuple[int, bytes, datetime]:
    """Return the head row: seq (-1 for an empty trail), hash, time. Raises DatabaseUnavailable."""
    row = await database.fetchrow(HEAD, org_id)
    return (-1, b"", to_datetime(0)) if row is None else (row[0], row[1], row[2])


async def lock(connection: Connection, org_ids: Sequence[int]) -> dict[int, LockedHead]:
    """Lock the head rows of these orgs, in the order of their ids, and return them."""
    locked = {}
    for row in await connection.fetch(LOCK_HEADS, sorted(org_ids)):
        org_id, seq, entry_hash, at, erasures, thawed_us, frozen_reason = row[:7]
        claimed = ChainHead(seq, entry_hash, IMPOSSIBLE_US if at is None else from_datetime(at))
        entry = StoredEntry(*row[7:16]) if row[7] is not None else None
        if seq >= 0 and at is not None and entry is None:
            # After waiting for a lock the join still returns the entry of the old head; this
            # second query has its own snapshot.
            entry = await single.at(connection, org_id, seq, at)
        locked[org_id] = LockedHead(claimed, erasures, thawed_us, frozen_reason, entry)
    return locked


async def between(
    connection: Connection, org_id: int, after: ChainHead, upto: ChainHead, limit: int
) -> list[StoredEntry]:
    """Return the entries after one head up to another, oldest first, at most ``limit``."""
    rows = await connection.fetch(
        ENTRIES_BETWEEN,
        org_id,
        after.seq,
        upto.seq,
        to_datetime(after.anchored_us),
        to_datetime(upto.anchored_us),
        limit,
    )
    return [StoredEntry(*row) for row in rows]


async def orgs_beyond(connection: Connection, heads: Sequence[tuple[int, int]]) -> set[int]:
    """Return the orgs of those (org_id, seq) pairs that have entries after the seq."""
    if not heads:
        return set()
    rows = await connection.fetch(
        ORGS_BEYOND, [org_id for org_id, _ in heads], [seq for _, seq in heads]
    )
    return {row[0] for row in rows}


async def newest(connection: Connection, org_id: int) -> StoredEntry | None:
    """Return the stored entry with the highest valid seq, or None."""
    row = await connection.fetchrow(NEWEST, org_id, MAX_SEQ - 1)
    return None if row is None else StoredEntry(*row)
