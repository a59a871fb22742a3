"""Months that were archived and dropped from the live database, and the policy for dropping.

Only this module knows where an org's live entries begin. A drop removes rows and adds to the
table ``departed`` in one transaction: a reader that misses a row and then reads ``departed``
finds the dropped range there.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Any, Final, NamedTuple

import asyncpg

from ledger.chain import ChainHead
from ledger.entry import from_datetime
from ledger.errors import RetentionRefused
from ledger.storage.database import RETENTION_ROLE, Database, connect_as_owner, explained
from ledger.storage.entries.months import MAX_MONTHS
from ledger.storage.lock_waits import log_lock_waits
from ledger.storage.role_lock import RETAINING, RoleLock

APPLICATION: Final = "quire retention"
LIVE_FROM: Final = "SELECT coalesce(max(last_seq) + 1, 0) FROM departed WHERE org_id = $1"
OF_ORG: Final = """
SELECT first_seq, last_seq, first_at, last_at FROM departed WHERE org_id = $1 ORDER BY first_seq"""
LAST: Final = """
SELECT last_seq, last_hash, last_at FROM departed WHERE org_id = $1
ORDER BY first_seq DESC LIMIT 1"""
MONTHS_DROPPED: Final = """
SELECT month, sum(entries)::bigint, count(*), min(target), min(departed_at)
FROM departed GROUP BY month, record_seq ORDER BY month LIMIT $1"""
KEEP: Final = "SELECT keep_months FROM retention"
SET_KEEP: Final = "UPDATE retention SET keep_months = $1 WHERE keep_months IS DISTINCT FROM $1"


class DroppedEntries(NamedTuple):
    """Dropped entries of one org and month, which the archive has."""

    first_seq: int
    last_seq: int
    first_at: datetime
    last_at: datetime


class DroppedMonthSummary(NamedTuple):
    """A dropped month: its first day, numbers of entries and orgs, archive target, drop time."""

    month: date
    entries: int
    orgs: int
    target: str
    departed_at: datetime


async def live_from(database: Database, org_id: int) -> int:
    """Return the first seq of an org's entries in the database; 0 if none was dropped."""
    row = await database.fetchrow(LIVE_FROM, org_id)
    return 0 if row is None else row[0]


async def of_org(database: Database, org_id: int) -> list[DroppedEntries]:
    """Return the dropped entries of an org, oldest first."""
    return [DroppedEntries(*row) for row in await database.fetch(OF_ORG, org_id)]


async def last(queries: Any, org_id: int) -> ChainHead | None:
    """Return the newest dropped entry of an org; ``queries`` must have asyncpg's ``fetchrow``."""
    row = await queries.fetchrow(LAST, org_id)
    return None if row is None else ChainHead(row[0], row[1], from_datetime(row[2]))


@asynccontextmanager
async def exclusive(retention_url: str) -> AsyncIterator[bool]:
    """Try to hold the lock of retention during the block: True if no other process drops months.

    Raises StorageError.
    """
    lock = await RoleLock.connect(retention_url, RETENTION_ROLE, RETAINING, name=APPLICATION)
    try:
        yield await lock.take()
    finally:
        lock.close()


async def gone(database: Database) -> list[DroppedMonthSummary]:
    """Return the dropped months, oldest first."""
    return [DroppedMonthSummary(*row) for row in await database.fetch(MONTHS_DROPPED, MAX_MONTHS)]


async def keep_months(database: Database) -> int | None:
    """Return for how many months entries stay after their month; None: for ever."""
    row = await database.fetchrow(KEEP)
    return None if row is None else row[0]


async def set_keep_months(owner_url: str, keep: int | None) -> None:
    """Set the policy, as the owner of the database.

    Raises RetentionRefused for another user, DatabaseUnavailable.
    """
    name = f"quire policy {os.getpid()}"
    connection = await connect_as_owner(owner_url, name=name)
    try:
        async with explained(), log_lock_waits(owner_url, name):
            if await connection.fetchval(KEEP) == keep:
                return
            try:
                await connection.execute(SET_KEEP, keep)
            except asyncpg.InsufficientPrivilegeError:
                raise RetentionRefused(
                    "only the owner of the database can set how long entries stay in it: give "
                    "the owner's URL as QUIRE_DATABASE_OWNER_URL"
                ) from None
    finally:
        await connection.close(timeout=5)
