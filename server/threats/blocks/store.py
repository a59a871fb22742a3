"""The addresses that security events speak of, for the rule that blocks them."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from ledger.storage.queries import Queries

# Details are read as text: what is no JSON must not fail the query. The numbers stand in the text of
# the query, those of :mod:`server.threats.blocks.rules`, as the index on `score` needs it.
SCORED: Final = """
SELECT e.digest, (array_agg(e.at ORDER BY e.at DESC))[$1] AS at FROM (
    SELECT at, substring(details FROM '"address_digest": ?"([0-9a-f]{32})"') AS digest
    FROM security_events WHERE score >= 75 AND at > now() - interval '10 minutes'
) e WHERE e.digest IS NOT NULL GROUP BY e.digest HAVING count(*) >= $1
ORDER BY count(*) DESC, e.digest LIMIT 200"""


class ScoredAddress(NamedTuple):
    """An address with several serious events: its digest, and when the first that counts happened."""

    digest: str
    since: datetime


async def scored_addresses(database: Queries, events: int) -> list[ScoredAddress]:
    """Return the addresses with so many serious events within ten minutes.

    ``since`` is the time of the newest but ``events`` - 1. Raises DatabaseUnavailable.
    """
    return [ScoredAddress(*row) for row in await database.fetch(SCORED, events)]
