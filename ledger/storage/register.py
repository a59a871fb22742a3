"""The trail `system` as the register reads it, and the snapshots of the register."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, NamedTuple

from ledger.blocks.block import SYSTEM_ORG
from ledger.chain import StoredEntry
from ledger.entry import MAX_SEQ
from ledger.rows import DecidingTable
from ledger.storage.database import Database
from ledger.storage.entries import heads
from ledger.storage.entries.blocks import DamagedTrail, entries_of, pages

SNAPSHOTS: Final = DecidingTable("register_snapshots", ("seq",), ("entry_hash", "state"))

FIND_SYSTEM: Final = "SELECT id FROM orgs WHERE slug = $1"
HEAD_SEQ: Final = "SELECT seq FROM heads WHERE org_id = $1"
ANY_ROW: Final = """
SELECT EXISTS (SELECT FROM orgs WHERE slug <> $1) OR EXISTS (SELECT FROM api_keys)"""
SNAPSHOT: Final = """
SELECT seq, entry_hash, state, mac FROM register_snapshots WHERE seq < $1 ORDER BY seq DESC LIMIT 1"""
SNAPSHOT_AT: Final = "SELECT seq, entry_hash, state, mac FROM register_snapshots WHERE seq = $1"
ADD_SNAPSHOT: Final = """
INSERT INTO register_snapshots (seq, entry_hash, state, mac) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING"""


class RegisterSnapshot(NamedTuple):
    """The register after the entry at ``seq``, whose hash is ``entry_hash``."""

    seq: int
    entry_hash: bytes
    state: bytes


class Damage(NamedTuple):
    """Entries that can't be read, and why."""

    last_seq: int
    reason: str


async def system_org(database: Database) -> int | None:
    """Return the number of the org `system`, None if it does not exist."""
    row = await database.fetchrow(FIND_SYSTEM, SYSTEM_ORG)
    return None if row is None else row[0]


async def has_rows(database: Database) -> bool:
    """Return whether there is any other org, or any API key."""
    row = await database.fetchrow(ANY_ROW, SYSTEM_ORG)
    return row is not None and bool(row[0])


async def head_seq(database: Database, org_id: int) -> int:
    """Return the seq of the head row, -1 without one."""
    row = await database.fetchrow(HEAD_SEQ, org_id)
    return -1 if row is None else row[0]


async def last_seq(database: Database, org_id: int) -> int:
    """Return the highest seq of the stored entries, whatever the head row says; -1 without any."""
    async with database.connection() as connection:
        newest = await heads.newest(connection, org_id)
    return -1 if newest is None else newest.seq


async def entries(
    database: Database, org_id: int, first: int, last: int
) -> AsyncIterator[list[StoredEntry] | Damage]:
    """Yield the entries ``first`` to ``last`` in pages, and the ranges that can't be read."""
    async for page in pages(database, org_id, first, last):
        for block in page:
            try:
                yield await entries_of([block], first, last)
            except DamagedTrail as error:
                yield Damage(block.last_seq, str(error))


async def newest_snapshot(database: Database, row_key: bytes) -> RegisterSnapshot | None:
    """Return the newest authentic snapshot, however many rows were planted after it."""
    before = MAX_SEQ
    while (row := await database.fetchrow(SNAPSHOT, before)) is not None:
        if (found := _authentic(row, row_key)) is not None:
            return found
        before = row[0]
    return None


async def add_snapshot(database: Database, snapshot: RegisterSnapshot, row_key: bytes) -> bool:
    """Store a snapshot, unless there is one of this seq; False if that one is not authentic."""
    mac = SNAPSHOTS.mac(row_key, *snapshot)
    await database.execute(ADD_SNAPSHOT, *snapshot, mac)
    row = await database.fetchrow(SNAPSHOT_AT, snapshot.seq)
    return row is not None and _authentic(row, row_key) is not None


def _authentic(row: Iterable[Any], row_key: bytes) -> RegisterSnapshot | None:
    seq, entry_hash, state, mac = row
    right = SNAPSHOTS.is_right(row_key, mac, seq, entry_hash, state)
    return RegisterSnapshot(seq, entry_hash, state) if right else None
