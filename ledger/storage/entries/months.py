"""The months of entries: created ahead of time, listed, held by readers, dropped."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

import asyncpg

from ledger.entry import HASH_BYTES
from ledger.errors import RetentionRefused
from ledger.storage.database import Connection, Database, connect, explained

MAX_MONTHS: Final = 12_000
MAX_ORGS: Final = 200_000
"""Limit of the orgs with entries in a month that can be dropped."""
DROP_TIMEOUT_S: Final = 3_600.0
_REFUSED: Final = "QR001"

CREATE: Final = "SELECT quire_create_entries_partition($1)"
HOLD: Final = "LOCK TABLE entries IN ACCESS SHARE MODE"
# The months come from the names of the partitions.
PRESENT: Final = f"""
SELECT to_date(substr(c.relname, 9), 'YYYY_MM') AS month,
       EXISTS (SELECT FROM pg_trigger t
               WHERE t.tgrelid = c.oid AND t.tgname = 'sealed' AND t.tgenabled <> 'D'),
       to_date(substr(c.relname, 9), 'YYYY_MM') + interval '1 month'
           + make_interval(months => r.keep_months) <= current_timestamp AT TIME ZONE 'UTC'
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid CROSS JOIN retention r
WHERE i.inhparent = 'entries'::regclass AND c.relname ~ '^entries_\\d{{4,}}_\\d{{2}}$'
ORDER BY month LIMIT {MAX_MONTHS}"""
# The times restrict the search to one partition.
RANGES: Final = f"""
SELECT r.org_id, o.slug, r.first_seq, r.last_seq, e.last_hash, h.seq IS NOT DISTINCT FROM r.last_seq
FROM (SELECT org_id, min(first_seq) AS first_seq, max(last_seq) AS last_seq FROM entries
      WHERE anchored_at >= $1 AND anchored_at < $2 GROUP BY org_id) AS r
LEFT JOIN orgs o ON o.id = r.org_id
LEFT JOIN heads h ON h.org_id = r.org_id
CROSS JOIN LATERAL (
    SELECT substring(last_hash FROM 1 FOR {HASH_BYTES}) AS last_hash FROM entries p
    WHERE p.org_id = r.org_id AND p.last_seq = r.last_seq
      AND p.anchored_at >= $1 AND p.anchored_at < $2 LIMIT 1) AS e
ORDER BY r.org_id LIMIT $3"""
DROP: Final = "SELECT quire_drop_entries_partition($1, $2, $3)"


class Month(NamedTuple):
    """A month in the database: its first day, whether it is sealed, and whether to drop it."""

    month: date
    sealed: bool
    due: bool


class DroppedRange(NamedTuple):
    """The entries of one org in a month; ``slug`` is None if the org does not exist."""

    org_id: int
    slug: str | None
    first_seq: int
    last_seq: int
    last_hash: bytes
    is_head: bool


async def create(connection: Connection, moment: datetime) -> None:
    """Create the month of this time where it is missing. Raises asyncpg's errors."""
    await connection.execute(CREATE, moment)


async def hold(connection: Connection) -> None:
    """Let no month be dropped before this transaction ends. Raises asyncpg's errors."""
    await connection.execute(HOLD)


async def present(database: Database) -> list[Month]:
    """Return the months in the database, oldest first."""
    return [Month(row[0], row[1], bool(row[2])) for row in await database.fetch(PRESENT)]


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
