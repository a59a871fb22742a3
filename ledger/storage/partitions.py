"""Partitions: created ahead of time, sealed when their month is over, dropped by age.

Functions of the owner do the work, so no other role needs a right to DDL. The server's role creates
partitions near the present; it can neither seal nor drop one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final

from ledger.storage.database import RETENTION_ROLE, Database, connect, explained
from ledger.storage.entries import months

MONTHS_AHEAD: Final = 3
DAYS_AHEAD: Final = 3

CREATE_DAY = "SELECT quire_create_idempotency_partition($1)"
SEAL = "SELECT quire_seal_partitions($1)"
DROP_DAYS = "SELECT quire_drop_idempotency_before($1)"


async def create_for(database: Database, moments: Iterable[datetime]) -> None:
    """Create the partitions for these moments where they are missing."""
    all_moments = list(moments)
    async with database.connection() as connection:
        for month in sorted({moment.replace(day=1, hour=0) for moment in all_moments}):
            await months.create(connection, month)
        for day in sorted({moment.date() for moment in all_moments}):
            await connection.execute(CREATE_DAY, day)


async def prepare(database: Database, now: datetime) -> None:
    """Create the partitions of the coming months and days; safe to run at any time."""
    month = now.astimezone(UTC).replace(day=1)
    ahead = [month]
    for _ in range(MONTHS_AHEAD):
        ahead.append((ahead[-1] + timedelta(days=32)).replace(day=1))
    days: list[date] = [now.date() + timedelta(days=offset) for offset in range(DAYS_AHEAD + 1)]
    async with database.connection() as connection:
        for moment in ahead:
            await months.create(connection, moment)
        for day in days:
            await connection.execute(CREATE_DAY, day)


async def retire(retention_url: str, now: datetime, idempotency_days: int) -> None:
    """Seal the months that are over, and drop expired idempotency keys, as the login of retention.

    Raises StorageError.
    """
    connection = await connect(retention_url, name="quire retention", role=RETENTION_ROLE)
    try:
        async with explained():
            await connection.execute(SEAL, now)
            await connection.execute(DROP_DAYS, now.date() - timedelta(days=idempotency_days))
    finally:
        connection.terminate()
