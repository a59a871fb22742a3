"""Security events that no entry seals yet, and the rows that say which events are sealed.

Numbers of events are committed out of order, so that "all events after the last sealed one" would
lose some: each sealed event has a row of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ledger.storage.database import Database
from ledger.storage.security_events import SecurityEventRow, selected
from ledger.storage.trail import AppendTransaction

MAX_TAKEN: Final = 2_000
"""Events that one transaction seals."""
MAX_ORGS: Final = 10_000
_UNSEALED: Final = "NOT EXISTS (SELECT FROM sealed_events s WHERE s.event_id = e.id)"
# A time that is still to come, or that Quire never writes, was put there: such an event does not wait.
_SINCE: Final = (
    "min(CASE WHEN e.at BETWEEN 'epoch' AND now() + interval '1 minute' THEN e.at ELSE 'epoch' END)"
)
WAITING: Final = f"""
SELECT coalesce(e.org_id, $1), {_SINCE}, min(e.id) FROM security_events e
WHERE e.id > $2 AND {_UNSEALED}
GROUP BY 1 ORDER BY 2 LIMIT {MAX_ORGS}"""
NEWEST: Final = "SELECT coalesce(max(id), 0) FROM security_events"
WAITING_OF: Final = f"""
SELECT {_SINCE} FROM security_events e
WHERE (e.org_id = $1 OR ($2 AND e.org_id IS NULL)) AND {_UNSEALED}"""
TAKE: Final = f"""
SELECT {selected("e")} FROM security_events e
WHERE (e.org_id = $1 OR ($2 AND e.org_id IS NULL)) AND {_UNSEALED}
ORDER BY e.id LIMIT {MAX_TAKEN}"""
SEAL: Final = """
INSERT INTO sealed_events (event_id, org_id) SELECT id, $2 FROM unnest($1::bigint[]) id
ON CONFLICT DO NOTHING"""
FORGET: Final = "DELETE FROM sealed_events WHERE org_id = $1"
NOW: Final = "SELECT now()"


class WaitingEvents(NamedTuple):
    """An org with events that no entry seals: when the oldest happened, and their lowest number."""

    org_id: int
    oldest: datetime
    first_id: int


class UnsealedEvents:
    """The events of a database that wait for an entry. Methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> datetime:
        """Return the database's time, by which events are stored."""
        row = await self._database.fetchrow(NOW)
        assert row is not None, "it has one row"
        now: datetime = row[0]
        return now

    async def waiting(self, system_id: int, after_id: int = 0) -> list[WaitingEvents]:
        """Return the orgs with waiting events behind a number, those that wait longest first.

        Events that concern all orgs belong to the org ``system_id``.
        """
        rows = await self._database.fetch(WAITING, system_id, after_id)
        return [WaitingEvents(*row) for row in rows]

    async def newest(self) -> int:
        """Return the highest number of an event; 0 without any."""
        row = await self._database.fetchrow(NEWEST)
        assert row is not None, "it has one row"
        number: int = row[0]
        return number

    async def oldest(self, org_id: int, *, of_all: bool) -> datetime | None:
        """Return when the oldest waiting event of an org happened; None if no event waits."""
        row = await self._database.fetchrow(WAITING_OF, org_id, of_all)
        return None if row is None else row[0]

    async def take(self, org_id: int, *, of_all: bool) -> list[SecurityEventRow]:
        """Return the first waiting events of an org, with ``of_all`` also those of all orgs."""
        rows = await self._database.fetch(TAKE, org_id, of_all)
        return [SecurityEventRow(*row) for row in rows]

    async def seal(self, transaction: AppendTransaction, org_id: int, ids: Sequence[int]) -> bool:
        """Mark events as sealed in the transaction of their entries; False if some are already."""
        done = await transaction.run(transaction.connection.execute(SEAL, list(ids), org_id))
        return bool(done == f"INSERT 0 {len(ids)}")


async def forget(transaction: AppendTransaction, org_id: int) -> None:
    """Have the events of an org sealed once more, from the commit of a transaction on."""
    await transaction.run(transaction.connection.execute(FORGET, org_id))
