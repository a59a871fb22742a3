"""The use of rate limits by all processes, in PostgreSQL.

The rows have no MAC: who can write to these tables can lift limits for a while, or use them up, and
nothing else. Places are keyed digests, so that no address is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ledger.storage.asking import Work, asking
from ledger.storage.database import Database

_OWNER: Final = "limits"
"""The owner of these statements in the pool, beside those of the orgs."""
MOST_AHEAD_US: Final = 60_000_000
"""How far a TAT can be ahead; it is more only after the clock of the database was set back."""
_NOW_US: Final = "(extract(epoch FROM now()) * 1000000)::bigint"
# In one order of places: two processes tell of the same places at once. The first admission that is
# told was made age µs ago: the time before it was not used.
TELL: Final = f"""
INSERT INTO rate_clocks AS c (place, tat_us, spent_us)
SELECT s.place, {_NOW_US} - s.age_us + s.spent_us, s.spent_us
FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS s (place, age_us, spent_us)
ORDER BY s.place
ON CONFLICT (place) DO UPDATE SET spent_us = excluded.spent_us, tat_us = greatest(
    least(c.tat_us, {_NOW_US} + {MOST_AHEAD_US}) + excluded.spent_us, excluded.tat_us)
RETURNING place, tat_us - {_NOW_US}"""
# Nothing is charged where one budget is used up. A concurrent charge shows as a missing row. A TAT
# that is further ahead than any charge leaves it is one of a clock that was set back since.
CHARGE: Final = f"""
WITH asked AS (
    SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS a (place, cost_us, most_us)
)
INSERT INTO rate_budgets AS b (place, tat_us, cost_us, most_us)
SELECT a.place, {_NOW_US} + a.cost_us, a.cost_us, a.most_us FROM asked a
WHERE NOT EXISTS (
    SELECT FROM asked o JOIN rate_budgets u ON u.place = o.place
    WHERE u.tat_us - {_NOW_US} BETWEEN o.most_us - o.cost_us + 1 AND o.most_us + {MOST_AHEAD_US})
ORDER BY a.place
ON CONFLICT (place) DO UPDATE SET
    cost_us = excluded.cost_us, most_us = excluded.most_us,
    tat_us = least(greatest(b.tat_us, {_NOW_US}) + excluded.cost_us, {_NOW_US} + excluded.most_us)
WHERE NOT b.tat_us - {_NOW_US}
    BETWEEN excluded.most_us - excluded.cost_us + 1 AND excluded.most_us + {MOST_AHEAD_US}
RETURNING place"""
AHEAD: Final = f"""
SELECT place, tat_us - {_NOW_US} FROM rate_budgets WHERE place = ANY($1::bytea[])"""
# A TAT that has passed says the same as no row.
FORGET_CLOCKS: Final = f"DELETE FROM rate_clocks WHERE tat_us < {_NOW_US} - {MOST_AHEAD_US}"
FORGET_BUDGETS: Final = f"DELETE FROM rate_budgets WHERE tat_us < {_NOW_US} - {MOST_AHEAD_US}"


class UsedTime(NamedTuple):
    """The use of a limit by one process, as time; the first admission was ``age_us`` ago."""

    place: bytes
    age_us: int
    spent_us: int


class Charge(NamedTuple):
    """A part of a budget, as time: of ``most_us`` it uses ``cost_us``."""

    place: bytes
    cost_us: int
    most_us: int


class _UsedUp(Exception):
    """Rolls a charge back: another one used a budget up at the same time."""


async def tell(database: Database, used: Sequence[UsedTime]) -> dict[bytes, int]:
    """Add what a process used; return for each place how far its TAT is ahead now, in µs."""
    with asking(Work.VITAL, _OWNER):
        rows = await database.fetch(TELL, *map(list, zip(*used, strict=True)))
    return {row[0]: row[1] for row in rows}


async def charge(database: Database, charges: Sequence[Charge]) -> dict[bytes, int] | None:
    """Charge all of several budgets and return None, or none of them.

    Then it returns for each place with a row how far its TAT is ahead, in µs.
    """
    columns = [list(column) for column in zip(*charges, strict=True)]
    with asking(Work.VITAL, _OWNER):
        try:
            async with database.transaction() as connection:
                if len(await connection.fetch(CHARGE, *columns)) == len(charges):
                    return None
                raise _UsedUp
        except _UsedUp:
            return {row[0]: row[1] for row in await database.fetch(AHEAD, columns[0])}


async def forget(database: Database) -> None:
    """Drop the rows that say nothing any more."""
    with asking(Work.VITAL, _OWNER):
        await database.execute(FORGET_CLOCKS)
        await database.execute(FORGET_BUDGETS)
