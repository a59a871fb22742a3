"""The database's own clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

NOW_US: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class Queries(Protocol):
    """What can be asked: a pool, or one connection."""

    async def fetch(self, query: str, *args: object) -> Sequence[Any]:
        """All rows of one query."""


async def now_us(queries: Queries) -> int:
    """The database's time in µs since the Unix epoch. Raises DatabaseUnavailable."""
    (row,) = await queries.fetch(NOW_US)
    return int(row[0])
