"""The months of entries: created ahead of time, listed, held by readers, dropped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

import asyncpg
import msgspec

from ledger.entry import HASH_BYTES
from ledger.errors import RetentionRefused
from ledger.rows import DecidingTable, Value
from ledger.storage.database import RETENTION_ROLE, Connection, Database, connect, explained

MAX_MONTHS: Final = 12_000
MAX_ORGS: Final = 200_000
"""Limit of the orgs with entries in a month that can be dropped."""
DROP_TIMEOUT_S: Final = 3_600.0
_REFUSED: Final = "QR001"

DEPARTED: Final = DecidingTable(
    "departed",
    ("org_id", "first_seq"),
    ("last_seq", "first_at", "last_at", "last_hash", "month", "target", "record_seq"),
    times=("first_at", "last_at"),
)

CREATE: Final = "SELECT quire_create_entries_partition($1)"
CREATE_ANY: Final = "SELECT quire_add_entries_month($1)"
HOLD: Final = "LOCK TABLE entries IN ACCESS SHARE MODE"
# The months come from the names of the partitions.
PRESENT: Final = f"""
SELECT to_date(substr(c.relname, 9), 'YYYY_MM') AS month,
       EXISTS (SELECT FROM pg_trigger t
               WHERE t.tgrelid = c.oid AND t.tgname = 'sealed' AND t.tgenabled <> 'D'),
       to_date(substr(c.relname, 9), 'YYYY_MM') + interval '1 month'
           + make_interval(months => r.keep_months) <= current_timestamp AT TIME ZONE 'UTC'
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid CROSS JOIN retention r
WHERE i.inhparent = 'entries'::regclass AND c.relname ~ '^entries_\\d{{4}}_\\d{{2}}$'
ORDER BY month LIMIT {MAX_MONTHS}"""
# The times restrict the search to one partition.
RANGES: Final = f"""
SELECT r.org_id, o.slug, r.first_seq, r.last_seq, e.last_hash, h.seq IS NOT DISTINCT FROM r.last_seq,
       r.first_at, r.last_at
FROM (SELECT org_id, min(first_seq) AS first_seq, max(last_seq) AS last_seq,
             min(anchored_at) AS first_at, max(anchored_at) AS last_at FROM entries
      WHERE anchored_at >= $1 AND anchored_at < $2 GROUP BY org_id) AS r
LEFT JOIN orgs o ON o.id = r.org_id
LEFT JOIN heads h ON h.org_id = r.org_id
CROSS JOIN LATERAL (
    SELECT substring(last_hash FROM 1 FOR {HASH_BYTES}) AS last_hash FROM entries p
    WHERE p.org_id = r.org_id AND p.last_seq = r.last_seq
      AND p.anchored_at >= $1 AND p.anchored_at < $2 LIMIT 1) AS e
ORDER BY r.org_id LIMIT $3"""
DROP: Final = "SELECT quire_drop_entries_partition($1, $2, $3, $4)"


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
    first_at: datetime
    last_at: datetime


async def create(connection: Connection, moment: datetime) -> None:
    """Create the month of this time, near the present, where it is missing.

    Raises asyncpg's errors.
    """
    await connection.execute(CREATE, moment)


async def create_any(connection: Connection, moment: datetime) -> None:
    """Create the month of any time, as the owner, where it is missing. Raises asyncpg's errors."""
    await connection.execute(CREATE_ANY, moment)


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


async def drop(
    retention_url: str,
    month: date,
    target: str,
    record_seq: int,
    held: Sequence[DroppedRange],
    row_key: bytes,
) -> int | None:
    """Drop a month in one transaction, as the login of retention; return the number of its entries.

    None if the month had been dropped before. ``record_seq`` is the entry of the system trail
    that records the drop, ``held`` what was read back from the archive;
    ``row_key`` authenticates the rows that say what was dropped. Raises RetentionRefused if
    a condition does not hold, DatabaseUnavailable while readers hold a lock on the table.
    """
    # A crash here leaves either the whole month, or its rows in `departed`: one transaction.
    connection = await connect(retention_url, name="quire retention", role=RETENTION_ROLE)
    try:
        async with explained():
            try:
                dropped: int | None = await connection.fetchval(
                    DROP,
                    _start(month),
                    target,
                    record_seq,
                    _document(held, month, target, record_seq, row_key),
                    timeout=DROP_TIMEOUT_S,
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


def _document(
    held: Sequence[DroppedRange], month: date, target: str, record_seq: int, row_key: bytes
) -> str:
    """Return the ranges as the function of the database takes them."""
    ranges = [
        {
            "org_id": one.org_id,
            "first_seq": one.first_seq,
            "last_seq": one.last_seq,
            "last_hash": one.last_hash.hex(),
            "mac": DEPARTED.mac(row_key, *_departed(one, month, target, record_seq)).hex(),
        }
        for one in held
    ]
    return msgspec.json.encode(ranges).decode()


def _departed(one: DroppedRange, month: date, target: str, record_seq: int) -> tuple[Value, ...]:
    """Return the covered values of the row of a dropped range."""
    place = one.org_id, one.first_seq, one.last_seq, one.first_at, one.last_at
    return (*place, one.last_hash, month.replace(day=1), target, record_seq)


def _start(month: date) -> datetime:
    return datetime.fromisoformat(f"{month:%Y-%m}-01T00:00:00+00:00")
