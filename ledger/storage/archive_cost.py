"""The cost and the lag of archiving, for the metrics.

The archiver is a separate process, perhaps on another machine: it adds its cost to the row of its
target. The lag is computed from the archive accounts, so that it grows while no archiver runs.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ledger.storage.database import Database
from ledger.storage.trees import ANCHOR_LOG

ADD_COST: Final = """
INSERT INTO archiver_cost AS c (target, cpu_seconds, objects, bytes) VALUES ($1, $2, $3, $4)
ON CONFLICT (target) DO UPDATE SET
    cpu_seconds = c.cpu_seconds + excluded.cpu_seconds, objects = c.objects + excluded.objects,
    bytes = c.bytes + excluded.bytes, updated_at = now()"""
COST: Final = "SELECT cpu_seconds, objects, bytes FROM archiver_cost WHERE target = $1"
# One probe of the accounts per org, and one of the checkpoints per org that is behind.
LAG: Final = f"""
SELECT coalesce(sum(behind.size - behind.done), 0)::bigint,
       coalesce(extract(epoch FROM clock_timestamp() - min(oldest.signed_at)), 0)::float8
FROM (
    SELECT t.org_id, t.size, coalesce(a.size, 0) AS done FROM trees t
    LEFT JOIN LATERAL (
        SELECT size FROM archived
        WHERE target = $1 AND org_id = t.org_id ORDER BY size DESC, leaves DESC LIMIT 1
    ) AS a ON true
    WHERE t.org_id <> {ANCHOR_LOG} AND t.size > coalesce(a.size, 0)
) AS behind
LEFT JOIN LATERAL (
    SELECT signed_at FROM checkpoints c
    WHERE c.org_id = behind.org_id AND c.size > behind.done ORDER BY c.size LIMIT 1
) AS oldest ON true"""


class ArchiverCost(NamedTuple):
    """The cost of a target: seconds of CPU, and the number of stored objects and bytes."""

    cpu_seconds: float
    objects: int
    bytes: int


class ArchiverLag(NamedTuple):
    """The number of signed entries not archived, and seconds since their oldest checkpoint."""

    entries: int
    seconds: float


async def add_cost(database: Database, target: str, cost: ArchiverCost) -> None:
    """Add to the cost of a target. Raises DatabaseUnavailable."""
    await database.execute(ADD_COST, target, *cost)


async def cost(database: Database, target: str) -> ArchiverCost:
    """Return the total cost of a target. Raises DatabaseUnavailable."""
    row = await database.fetchrow(COST, target)
    return ArchiverCost(0.0, 0, 0) if row is None else ArchiverCost(*row)


async def lag(database: Database, target: str) -> ArchiverLag:
    """Return how far archiving in a target lags behind signing. Raises DatabaseUnavailable."""
    row = await database.fetchrow(LAG, target)
    return ArchiverLag(0, 0.0) if row is None else ArchiverLag(row[0], max(row[1], 0.0))
