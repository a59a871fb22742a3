"""Security events as they are listed, and the acknowledgements of an operator.

An acknowledgement hides an event from those who look for open ones, so its row counts only with its
MAC. It stands in the transaction of its entry in the org's trail.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from ledger.rows import DecidingTable
from ledger.storage.database import Database
from ledger.storage.security_events import SecurityEventRow, selected
from ledger.storage.trail import AppendTransaction

ACKNOWLEDGED: Final = DecidingTable(
    "acknowledged_events",
    ("event_id",),
    ("org_id", "acknowledged_at", "key_id", "reason"),
    ("acknowledged_at",),
)
MAX_LOOKED_AT: Final = 10_000
"""Rows that one page looks at, where it leaves out acknowledged or open ones."""
_ROWS_AT_ONCE: Final = 1_000
_EVENT: Final = len(SecurityEventRow._fields)
_JOINED: Final = f"""
SELECT {selected("e")}, a.event_id, a.org_id,
       CASE WHEN a.acknowledged_at BETWEEN 'epoch' AND '4253-01-01Z' THEN a.acknowledged_at END,
       a.key_id, a.reason, a.mac
FROM security_events e LEFT JOIN acknowledged_events a ON a.event_id = e.id
WHERE (e.org_id = $1 OR ($2 AND e.org_id IS NULL))"""
SELECT: Final = f"""
{_JOINED} AND e.id < $3
  AND ($4::text IS NULL OR e.kind = $4) AND ($5::text IS NULL OR e.severity = $5)
  AND ($6::timestamptz IS NULL OR e.at >= $6) AND ($7::timestamptz IS NULL OR e.at < $7)
ORDER BY e.id DESC LIMIT $8"""
SELECT_ONE: Final = f"{_JOINED} AND e.id = $3"
INSERT: Final = """
INSERT INTO acknowledged_events (event_id, org_id, acknowledged_at, key_id, reason, mac)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"""


class Acknowledgement(NamedTuple):
    """Who acknowledged an event, when, and why."""

    at: datetime
    key_id: str
    reason: str


class ListedEvent(NamedTuple):
    """An event, and its acknowledgement; if that ``is_forged``, it does not count."""

    row: SecurityEventRow
    acknowledged: Acknowledgement | None
    is_forged: bool


class EventFilter(NamedTuple):
    """Which events are listed; None: any."""

    kind: str | None = None
    severity: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    acknowledged: bool | None = None


class SecurityEventTable:
    """The events of orgs; those that concern all orgs belong to the org with the id ``system_id``."""

    def __init__(self, database: Database, row_key: bytes) -> None:
        self._database = database
        self._row_key = row_key

    async def page(
        self, org_id: int, wanted: EventFilter, below: int, limit: int, *, of_all: bool
    ) -> tuple[list[ListedEvent], int | None]:
        """Return events with ids below one, newest first, and ``below`` of the next page.

        With ``of_all``, those that concern all orgs too. A page may have fewer events than
        ``limit``, or none, and a next page.
        """
        found: list[ListedEvent] = []
        for _ in range(MAX_LOOKED_AT // _ROWS_AT_ONCE):
            rows = await self._database.fetch(
                SELECT, org_id, of_all, below, *wanted[:4], _ROWS_AT_ONCE
            )
            for row in rows:
                event = self._listed(org_id, row)
                below = event.row.id
                if wanted.acknowledged in (None, event.acknowledged is not None):
                    found.append(event)
                if len(found) == limit:
                    return found, below
            if len(rows) < _ROWS_AT_ONCE:
                return found, None
        return found, below

    async def find(self, org_id: int, event_id: int, *, of_all: bool) -> ListedEvent | None:
        """Return an event of an org; None if the org has none with this id."""
        row = await self._database.fetchrow(SELECT_ONE, org_id, of_all, event_id)
        return None if row is None else self._listed(org_id, row)

    def _listed(self, org_id: int, row: Any) -> ListedEvent:
        event, stated = SecurityEventRow(*row[:_EVENT]), tuple(row[_EVENT:])
        *values, mac = stated
        if values[0] is None:
            return ListedEvent(event, None, False)
        if values[1] != org_id or not ACKNOWLEDGED.is_right(self._row_key, mac, *values):
            return ListedEvent(event, None, True)
        return ListedEvent(event, Acknowledgement(*values[2:]), False)

    async def acknowledge(
        self, transaction: AppendTransaction, org_id: int, event_id: int, said: Acknowledgement
    ) -> bool:
        """Store an acknowledgement in an append's transaction; False if the event has one."""
        values = (event_id, org_id, *said)
        mac = ACKNOWLEDGED.mac(self._row_key, *values)
        done = await transaction.run(transaction.connection.execute(INSERT, *values, mac))
        return bool(done == "INSERT 0 1")
