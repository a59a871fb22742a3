"""Months that were archived and dropped from the live database, and the policy for dropping.

Only this module knows where an org's live entries begin. A drop removes rows and adds to the
table ``departed`` in one transaction: a reader that misses a row and then reads ``departed``
finds the dropped range there.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg

from ledger.chain import ChainHead
from ledger.entry import from_datetime
from ledger.errors import RetentionRefused
from ledger.storage.database import Database, connect, connect_as_owner, explained
from ledger.storage.lock_waits import log_lock_waits

RETENTION_LOCK: Final = 7_305_804_406
MAX_MONTHS: Final = 12_000
MAX_ORGS: Final = 200_000
"""Limit of the orgs with entries in a month that can be dropped."""
DROP_TIMEOUT_S: Final = 3_600.0
_REFUSED: Final = "QR001"

LIVE_FROM: Final = "SELECT coalesce(max(last_seq) + 1, 0) FROM departed WHERE org_id = $1"
OF_ORG: Final = """
SELECT first_seq, last_seq, first_at, last_at FROM departed WHERE org_id = $1 ORDER BY first_seq"""
LAST: Final = """
SELECT last_seq, last_hash, last_at FROM departed WHERE org_id = $1
ORDER BY first_seq DESC LIMIT 1"""
MONTHS_DROPPED: Final = """
SELECT month, sum(entries)::bigint, count(*), min(target), min(departed_at)
FROM departed GROUP BY month, record_seq ORDER BY month LIMIT $1"""
# The months come from the names of the partitions.
MONTHS: Final = f"""
SELECT to_date(substr(c.relname, 9), 'YYYY_MM') AS month,
       EXISTS (SELECT FROM pg_trigger t
               WHERE t.tgrelid = c.oid AND t.tgname = 'sealed' AND t.tgenabled <> 'D'),
       to_date(substr(c.relname, 9), 'YYYY_MM') + interval '1 month'
           + make_interval(months => r.keep_months) <= current_timestamp AT TIME ZONE 'UTC'
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid CROSS JOIN retention r
WHERE i.inhparent = 'entries'::regclass AND c.relname ~ '^entries_\\d{{4,}}_\\d{{2}}$'
ORDER BY month LIMIT {MAX_MONTHS}"""
KEEP: Final = "SELECT keep_months FROM retention"
SET_KEEP: Final = "UPDATE retention SET keep_months = $1 WHERE keep_months IS DISTINCT FROM $1"
# The times restrict the search to one partition.
RANGES: Final = """
SELECT r.org_id, o.slug, r.first_seq, r.last_seq, e.entry_hash, h.seq IS NOT DISTINCT FROM r.last_seq
FROM (SELECT org_id, min(seq) AS first_seq, max(seq) AS last_seq FROM entries
      WHERE anchored_at >= $1 AND anchored_at < $2 GROUP BY org_id) AS r
LEFT JOIN orgs o ON o.id = r.org_id
LEFT JOIN heads h ON h.org_id = r.org_id
CROSS JOIN LATERAL (
    SELECT entry_hash FROM entries p WHERE p.org_id = r.org_id AND p.seq = r.last_seq
      AND p.anchored_at >= $1 AND p.anchored_at < $2 LIMIT 1) AS e
ORDER BY r.org_id LIMIT $3"""
DROP: Final = "SELECT quire_drop_entries_partition($1, $2, $3)"


class DroppedEntries(NamedTuple):
    """Dropped entries of one org and month, which the archive has."""

    first_seq: int
    last_seq: int
    first_at: datetime
    last_at: datetime


class Month(NamedTuple):
    """A month in the database: its first day, whether it is sealed, and whether to drop it."""

    month: date
    sealed: bool
    due: bool


class DroppedMonthSummary(NamedTuple):
    """A dropped month: its first day, numbers of entries and orgs, archive target, drop time."""

    month: date
    entries: int
    orgs: int
    target: str
    departed_at: datetime


class DroppedRange(NamedTuple):
    """The entries of one org in a month; ``slug`` is None if the org does not exist."""

    org_id: int
    slug: str | None
    first_seq: int
    last_seq: int
    last_hash: bytes
    is_head: bool


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
async def exclusive(url: str) -> AsyncIterator[bool]:
    """Try to hold the retention lock during the block: True if no other process drops months.

    Raises DatabaseUnavailable.
    """
    connection = await connect(url)
    try:
        async with explained():
            locked = await connection.fetchval("SELECT pg_try_advisory_lock($1)", RETENTION_LOCK)
        yield bool(locked)
    finally:
        connection.terminate()


async def gone(database: Database) -> list[DroppedMonthSummary]:
    """Return the dropped months, oldest first."""
    return [DroppedMonthSummary(*row) for row in await database.fetch(MONTHS_DROPPED, MAX_MONTHS)]


async def months(database: Database) -> list[Month]:
    """Return the months in the database, oldest first."""
    return [Month(row[0], row[1], bool(row[2])) for row in await database.fetch(MONTHS)]


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


async def ranges(database: Database, month: date) -> list[DroppedRange]:
    """Return the entries of a month, by org. Raises RetentionRefused for too many orgs."""
    start = _start(month)
    end = (start + timedelta(days=31)).replace(day=1)
    async with database.connection() as connection:
        rows = await connection.fetch(RANGES, start, end, MAX_ORGS + 1, timeout=DROP_TIMEOUT_S)
    if len(rows) > MAX_ORGS:
        raise RetentionRefused(
            f"{month:%Y-%m} has entries of more than {MAX_ORGS} orgs and can't be dropped"
        )
    return [DroppedRange(*row) for row in rows]


async def drop(url: str, month: date, target: str, record_seq: int) -> int | None:
    """Drop a month from the database in one transaction; return the number of dropped entries.

    None if the month had been dropped before. ``record_seq`` is the entry of the system trail
    that records the drop. Raises RetentionRefused if a condition does not hold,
    DatabaseUnavailable while readers hold a lock on the table.
    """
    # A crash here leaves either the whole month, or its rows in `departed`: one transaction.
    connection = await connect(url)
    try:
        async with explained():
            try:
                dropped: int | None = await connection.fetchval(
                    DROP, _start(month), target, record_seq, timeout=DROP_TIMEOUT_S
                )
            except asyncpg.PostgresError as error:
                if getattr(error, "sqlstate", None) != _REFUSED and not isinstance(
                    error, asyncpg.CheckViolationError
                ):
                    raise
                raise RetentionRefused(f"nothing was dropped: {error}") from error
    finally:
        connection.terminate()
    return dropped


def _start(month: date) -> datetime:
    return datetime.fromisoformat(f"{month:%Y-%m}-01T00:00:00+00:00")
