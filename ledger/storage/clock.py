"""The database's clock."""

from __future__ import annotations

from typing import Final

from ledger.storage.queries import Queryable

NOW_US: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


async def now_us(queries: Queryable) -> int:
    """Return the database's time in µs since the Unix epoch. Raises DatabaseUnavailable."""
    (row,) = await queries.fetch(NOW_US)
    return int(row[0])
