"""Heads of trails and the entries around them: what an append checks before it extends a trail.

The functions raise asyncpg's errors, but for :func:`head`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ledger.blocks.block import Block
from ledger.blocks.layout import FRAME_BYTES, RECORD_BYTES
from ledger.blocks.picking import EntriesUnreadable, Part, Picked
from ledger.chain import ChainHead, StoredEntry
from ledger.entry import HASH_BYTES, MAX_SEQ, from_datetime, to_datetime
from ledger.storage.database import Connection, Database
from ledger.storage.entries.blocks import entries_of, key_columns, pages
from ledger.storage.entries.picked import parts
from ledger.storage.entries.picked.parts import NOTHING
from ledger.storage.entries.writing.marks import BlockTail, tail

# A time that Python's datetime can't hold was not written by Quire.
HEAD: Final = """
SELECT seq, entry_hash,
       CASE WHEN anchored_at BETWEEN 'epoch' AND '4253-01-01Z' THEN anchored_at ELSE 'epoch' END
FROM heads WHERE org_id = $1"""


# The last frame of a block's leaves is not longer. That of the payloads is longer if it holds one
# large payload.
_LAST: Final = (
    f"{key_columns('e')}, {', '.join(tail('e.leaves', RECORD_BYTES))}, "
    f"{', '.join(tail('e.payloads', FRAME_BYTES))}"
)
# Every process locks heads in the order of org_id, so that no two deadlock. A time
# that Python can't hold is read as NULL: one edited row must not fail the whole batch.
LOCK_HEADS: Final = f"""
SELECT h.org_id, h.seq, h.entry_hash,
       CASE WHEN h.anchored_at BETWEEN 'epoch' AND '4253-01-01Z' THEN h.anchored_at END,
       h.erasures, h.revocations, h.thawed_us, h.frozen_reason, {_LAST}
FROM heads h
LEFT JOIN entries e ON e.org_id = h.org_id AND e.last_seq = h.seq AND e.anchored_at = h.anchored_at
                   AND h.anchored_at BETWEEN 'epoch' AND '4253-01-01Z'
WHERE h.org_id = ANY ($1::bigint[])
ORDER BY h.org_id
FOR UPDATE OF h"""
ENDING_AT: Final = f"""
SELECT {_LAST} FROM entries e WHERE e.org_id = $1 AND e.last_seq = $2 AND e.anchored_at = $3"""
# LATERAL with LIMIT pins the plan: one primary key probe per org and partition.
ORGS_BEYOND: Final = f"""
SELECT w.org_id FROM unnest($1::bigint[], $2::bigint[]) AS w (org_id, seq)
CROSS JOIN LATERAL (
    SELECT FROM entries e WHERE e.org_id = w.org_id AND e.last_seq > w.seq AND e.last_seq < {MAX_SEQ} LIMIT 1
) AS beyond"""
NEWEST: Final = f"""
SELECT last_seq, substring(last_hash FROM 1 FOR {HASH_BYTES}),
       CASE WHEN anchored_at BETWEEN 'epoch' AND '4253-01-01Z' THEN anchored_at ELSE 'epoch' END
FROM entries WHERE org_id = $1 AND last_seq BETWEEN 0 AND $2
ORDER BY last_seq DESC, anchored_at DESC LIMIT 1"""

IMPOSSIBLE_US: Final = -1


class LockedHead(NamedTuple):
    """A locked head row, with the last entry of the block that ends at it (None if absent).

    ``head.anchored_us`` is :data:`IMPOSSIBLE_US` if Quire can't have written the row's time.
    ``damage`` says that the entry can't be read, and why. ``unread`` holds its block and leaf if its payload
    is so large, as stored or inflated, that :func:`with_payload` must read it: the heads of many
    orgs are held at once. ``mark`` is that of the stored block; a head that ``is_known`` by it has
    no entry here.
    """

    head: ChainHead
    erasures: int
    revocations: int
    thawed_us: int
    frozen_reason: str | None
    entry: StoredEntry | None
    damage: str | None = None
    unread: tuple[Picked, Part] | None = None
    mark: bytes | None = None
    is_known: bool = False

    @property
    def counts(self) -> HeadCounts:
        """The counts of the head row."""
        return HeadCounts(self.erasures, self.revocations)


class HeadCounts(NamedTuple):
    """How often persons of an org were erased, and its keys revoked, by its head row."""

    erasures: int
    revocations: int


class KnownEnd(NamedTuple):
    """The end of a trail that a process wrote or checked: its head row and the mark of its block."""

    org_id: int
    head: ChainHead
    thawed_us: int
    counts: HeadCounts
    mark: bytes


def unknown(_org_id: int, _locked: LockedHead) -> bool:
    """Return False: every head is decoded and checked."""
    return False


async def head(database: Database, org_id: int) -> tuple[int, bytes, datetime]:
    """Return the head row: seq (-1 for an empty trail), hash, time. Raises DatabaseUnavailable."""
    row = await database.fetchrow(HEAD, org_id)
    return (-1, b"", to_datetime(0)) if row is None else (row[0], row[1], row[2])


async def lock(
    connection: Connection,
    org_ids: Sequence[int],
    is_known: Callable[[int, LockedHead], bool] = unknown,
) -> dict[int, LockedHead]:
    """Lock the head rows of these orgs, in the order of their ids, and return them.

    ``is_known`` says whether a head's block is known to be right by its mark.
    """
    locked = {}
    for row in await connection.fetch(LOCK_HEADS, sorted(org_ids)):
        org_id, seq, entry_hash, at, erasures, revocations, thawed_us, frozen_reason, *block = row
        claimed = ChainHead(seq, entry_hash, IMPOSSIBLE_US if at is None else from_datetime(at))
        found = LockedHead(claimed, erasures, revocations, thawed_us, frozen_reason, None)
        if seq >= 0 and at is not None and block[0] is None:
            # After waiting for a lock the join still returns the block of the old head; this
            # second query has its own snapshot.
            block = await connection.fetchrow(ENDING_AT, org_id, seq, at)
        if block and block[0] is not None:
            found = _with_block(found, BlockTail(*block), is_known)
        locked[org_id] = found
    return locked


def _with_block(
    locked: LockedHead, block: BlockTail, is_known: Callable[[int, LockedHead], bool]
) -> LockedHead:
    if None in block:
        return _with_entry(locked, block)
    locked = locked._replace(mark=block.mark)
    if is_known(block.org_id, locked):
        return locked._replace(is_known=True)
    return _with_entry(locked, block)


def _with_entry(locked: LockedHead, values: BlockTail) -> LockedHead:
    block = Block._make((*values[:8], b"", b""))
    tail, beside = Part(values.leaves_at, values.leaves), Part(values.payloads_at, values.payloads)
    try:
        picked = Picked(block, [block.last_seq], whole=True)
        if (tail.end, beside.end) != (picked.leaves.end, picked.payloads.end):
            return locked._replace(damage="can't be read: its block does not end with its frames")
        if picked.raw_payload_bytes > FRAME_BYTES:
            picked.records(tail)
            return locked._replace(unread=(picked, tail))
        return locked._replace(entry=picked.entries(tail, beside)[0])
    except EntriesUnreadable as error:
        return locked._replace(damage=f"can't be read: {error}")


async def with_payload(connection: Connection, locked: LockedHead) -> LockedHead:
    """Return a locked head whose entry has its payload, however large."""
    if locked.unread is None:
        return locked
    picked, leaves = locked.unread
    (found,) = await parts.fetch(connection, [(picked.block, NOTHING, picked.payloads)])
    if found is None:
        return locked._replace(unread=None)
    try:
        (entry,) = await asyncio.to_thread(picked.entries, leaves, found[1])
    except EntriesUnreadable as error:
        return locked._replace(unread=None, damage=f"can't be read: {error}")
    return locked._replace(unread=None, entry=entry, mark=None)  # it covers a part of the payload


async def between(
    connection: Connection, org_id: int, after: ChainHead, upto: ChainHead, limit: int
) -> AsyncIterator[list[StoredEntry]]:
    """Yield the entries after one head up to another, oldest first, in pages.

    A page has the entries of at most ``limit`` blocks. Raises DamagedTrail.
    """
    first, last = after.seq + 1, upto.seq
    since, until = to_datetime(after.anchored_us), to_datetime(upto.anchored_us)
    async for page in pages(connection, org_id, first, last, since=since, until=until, limit=limit):
        yield await entries_of(page, first, last)


async def orgs_beyond(connection: Connection, heads: Sequence[tuple[int, int]]) -> set[int]:
    """Return the orgs of those (org_id, seq) pairs that have entries after the seq."""
    if not heads:
        return set()
    rows = await connection.fetch(
        ORGS_BEYOND, [org_id for org_id, _ in heads], [seq for _, seq in heads]
    )
    return {row[0] for row in rows}


async def newest(connection: Connection, org_id: int) -> ChainHead | None:
    """Return seq, hash and time of the stored entry with the highest valid seq, or None.

    It need not be readable: all three are columns of its block.
    """
    row = await connection.fetchrow(NEWEST, org_id, MAX_SEQ - 1)
    return None if row is None else ChainHead(row[0], row[1], from_datetime(row[2]))
