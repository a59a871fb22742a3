"""Changes of single rows that decide, each by one statement that changes nothing where it is refused.

So the changes of many callers may share a transaction: a refused one leaves nothing to undo.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final, NamedTuple

import asyncpg

from ledger.errors import UNAVAILABLE, QuireError
from ledger.storage.database import Connection

SOURCE: Final = "{source}"
"""Stands in a statement where its FROM may name a relation of one row, on which it depends."""


class RowChange(NamedTuple):
    """A change of one row.

    ``statements`` is the inside of a WITH clause, with the place :data:`SOURCE`. Its part ``changed``
    returns MAC and time of the changed row, or no row if the change is refused. ``values`` are its
    parameters; ``mac`` is the row's new MAC.
    """

    statements: str
    values: tuple[Any, ...]
    mac: bytes


class RowImpossible(QuireError):
    """The database can't store one of some rows. Nothing was changed."""

    problem_type = UNAVAILABLE


def standalone(statements: str) -> str:
    """Return the query that makes a change on its own."""
    body = statements.replace(SOURCE, "")
    return f"WITH {body} SELECT mac, created_at FROM changed"


async def make(connection: Connection, changes: Sequence[RowChange]) -> list[datetime | None]:
    """Make changes in their order; return when each row was created, None for a refused change.

    Raises RowImpossible, and asyncpg's errors.
    """
    made: list[datetime | None] = []
    for statements, some in groupby(changes, lambda change: change.statements):
        made += await _make_alike(connection, statements, list(some))
    return made


async def _make_alike(
    connection: Connection, statements: str, changes: Sequence[RowChange]
) -> list[datetime | None]:
    try:
        rows = await connection.fetchmany(
            standalone(statements), [change.values for change in changes]
        )
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as error:
        raise RowImpossible(f"the database refuses this row: {error}") from error
    left, times = Counter(row[0] for row in rows), dict(rows)
    made: list[datetime | None] = []
    for change in changes:
        is_made = left[change.mac] > 0
        left[change.mac] -= is_made
        made.append(times[change.mac] if is_made else None)
    return made
