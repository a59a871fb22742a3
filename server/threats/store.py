"""Threat scores and the events that they come from, in PostgreSQL, shared by all processes.

Nothing here has a MAC. Whoever can write these rows can raise or hide an alarm, and opens nothing;
the events themselves are sealed into the trail like all security events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from ledger.storage.database import Connection, Database
from ledger.storage.event_kinds import kind_of
from ledger.storage.security_events import storable
from server.threats.scores import RECENT_MINUTES

HOUR_MINUTES: Final = 60
PERIOD_MINUTES: Final = 24 * HOUR_MINUTES
MAX_LISTED: Final = 100
"""Keys, and addresses, that one answer lists."""

# One process at a time writes events: it sees what the others wrote.
LOCK: Final = "SELECT pg_advisory_xact_lock(73058, 6)"
MINUTE: Final = "SELECT (extract(epoch FROM now()) / 60)::int"
ADD_BLOCKED: Final = """
INSERT INTO threat_blocked AS b (org_id, minute, blocked)
SELECT n.org_id, $3, n.blocked FROM unnest($1::bigint[], $2::int[]) AS n (org_id, blocked)
ON CONFLICT (org_id, minute) DO UPDATE SET blocked = b.blocked + excluded.blocked"""
RECENT: Final = """
SELECT org_id, sum(blocked)::int FROM threat_blocked
WHERE org_id = ANY($1::bigint[]) AND minute > $2 GROUP BY org_id"""
TOLD: Final = """
SELECT org_id, minute, event FROM threat_told
WHERE org_id = ANY($1::bigint[]) AND minute = ANY($2::int[])"""
ADD_TOLD: Final = """
INSERT INTO threat_told (org_id, minute, event)
SELECT * FROM unnest($1::bigint[], $2::int[], $3::text[]) ON CONFLICT DO NOTHING"""
ADD_EVENTS: Final = """
INSERT INTO security_events (org_id, kind, detail, severity, layer, score, key_id, details)
SELECT nullif(n.org_id, 0), n.kind, n.detail, n.severity, n.layer, n.score, n.key_id, n.details
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[],
            $7::text[], $8::text[])
     AS n (org_id, kind, detail, severity, layer, score, key_id, details)"""
ADD_SCORES: Final = """
INSERT INTO threat_scores AS s (org_id, kind, name, hour, network, score, parts, at)
SELECT n.org_id, n.kind, n.name, $1, n.network, n.score, n.parts, now()
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::text[])
     AS n (org_id, kind, name, network, score, parts)
ON CONFLICT (org_id, kind, name, hour) DO UPDATE SET score = excluded.score,
    parts = excluded.parts, network = excluded.network, at = excluded.at
WHERE excluded.score >= s.score"""
ALERT: Final = """
UPDATE threat_scores SET alerted = true
WHERE org_id = ANY($1::bigint[]) AND hour = $2 AND score >= $3 AND NOT alerted
RETURNING org_id, kind, name, network, score, parts"""
SCORES: Final = """
SELECT DISTINCT ON (kind, name) kind, left(name, 100), left(network, 100), score,
       left(parts, 2000), at
FROM threat_scores
WHERE org_id = $1 AND kind = $2 AND hour > $3 ORDER BY kind, name, score DESC, hour DESC
LIMIT 10000"""
BLOCKED_SINCE: Final = (
    "SELECT coalesce(sum(blocked), 0)::bigint FROM threat_blocked WHERE org_id = $1 AND minute > $2"
)
COUNTS: Final = """
SELECT severity, layer, kind, count(*) FROM security_events
WHERE (org_id = $1 OR ($2 AND org_id IS NULL)) AND at > now() - $3 * interval '1 hour'
GROUP BY 1, 2, 3"""
# A few minutes back: clocks of processes differ a little, and another one may have written.
NEWLY_TOLD: Final = """
SELECT DISTINCT substr(event, length($1) + 1, 100) FROM threat_told
WHERE minute >= (extract(epoch FROM now()) / 60)::int - 2 AND starts_with(event, $1)"""
FORGET: Final = (
    "DELETE FROM threat_told WHERE minute < $1",
    "DELETE FROM threat_blocked WHERE minute < $1",
    "DELETE FROM threat_scores WHERE hour < $1 / 60",
)


class Told(NamedTuple):
    """An event that was written in a period, which begins with ``minute``."""

    org_id: int
    minute: int
    event: str


class NewEvent(NamedTuple):
    """A security event to be written; ``details`` is its object for programs."""

    org_id: int
    kind: str
    detail: str
    score: int | None
    key_id: str | None
    details: Mapping[str, object]


class SubjectScore(NamedTuple):
    """The score that an event gives an org, a key or an address (``kind``), with its parts."""

    org_id: int
    kind: str
    name: str
    network: str
    score: int
    parts: str


class EventTransaction:
    """A transaction that writes events, alone of all processes."""

    def __init__(self, connection: Connection, minute: int) -> None:
        self._connection = connection
        self.minute = minute
        """The minute of the database's clock, since the Unix epoch."""

    @classmethod
    async def begin(cls, connection: Connection) -> EventTransaction:
        """Wait until no other process writes events."""
        await connection.execute(LOCK)
        return cls(connection, await connection.fetchval(MINUTE))

    async def blocked(self, counts: Mapping[int, int]) -> None:
        """Add to how often something was blocked in orgs."""
        if counts:
            orgs, numbers = zip(*counts.items(), strict=True)
            await self._connection.execute(ADD_BLOCKED, orgs, numbers, self.minute)

    async def recent(self, org_ids: Sequence[int]) -> dict[int, int]:
        """Return how often something was blocked in orgs within the last ten minutes."""
        rows = await self._connection.fetch(RECENT, org_ids, self.minute - RECENT_MINUTES)
        return dict(map(tuple, rows))

    async def told(self, org_ids: Sequence[int], minutes: Sequence[int]) -> set[Told]:
        """Return which events of orgs were written in the periods that begin with these minutes."""
        rows = await self._connection.fetch(TOLD, org_ids, minutes)
        return {Told(*row) for row in rows}

    async def write(self, events: Sequence[NewEvent], told: Sequence[Told]) -> None:
        """Write events, and that they were written."""
        if not events:
            return
        kinds = [kind_of(event.kind) for event in events]
        await self._connection.execute(
            ADD_EVENTS,
            [event.org_id for event in events],
            [event.kind for event in events],
            [storable(event.detail) for event in events],
            [kind.severity for kind in kinds],
            [kind.layer for kind in kinds],
            [event.score for event in events],
            [event.key_id for event in events],
            [msgspec.json.encode(event.details).decode() for event in events],
        )
        if told:
            await self._connection.execute(ADD_TOLD, *zip(*told, strict=True))

    async def score(self, scores: Sequence[SubjectScore], alert_from: int) -> list[SubjectScore]:
        """Raise scores of this hour, and return those that reach the alert level now."""
        if not scores:
            return []
        hour = self.minute // HOUR_MINUTES
        await self._connection.execute(ADD_SCORES, hour, *zip(*scores, strict=True))
        orgs = sorted({score.org_id for score in scores})
        return [
            SubjectScore(*row)
            for row in await self._connection.fetch(ALERT, orgs, hour, alert_from)
        ]


class StoredScore(NamedTuple):
    """The highest score of an org, a key or an address in a period, and when it was reached."""

    name: str
    network: str
    score: int
    parts: str
    at: datetime


class EventCount(NamedTuple):
    """How many events of a period have a severity, a layer and a kind."""

    severity: str
    layer: str
    kind: str
    events: int


async def scores_of(
    database: Database, org_id: int, kind: str, minute: int, hours: int
) -> list[StoredScore]:
    """Return the highest scores of some hours before a minute, the gravest first."""
    rows = await database.fetch(SCORES, org_id, kind, minute // HOUR_MINUTES - hours)
    found = [StoredScore(*row[1:]) for row in rows]
    return sorted(found, key=lambda score: (-score.score, score.name))[:MAX_LISTED]


async def blocked_since(database: Database, org_id: int, minute: int) -> int:
    """Return how often something was blocked in an org after a minute."""
    row = await database.fetchrow(BLOCKED_SINCE, org_id, minute)
    assert row is not None, "it has one row"
    count: int = row[0]
    return count


async def counts(database: Database, org_id: int, hours: int, *, of_all: bool) -> list[EventCount]:
    """Return how many events an org has, with ``of_all`` also those that concern all orgs."""
    rows = await database.fetch(COUNTS, org_id, of_all, hours)
    return [EventCount(*row) for row in rows]


async def newly_told(database: Database, beginning: str) -> list[str]:
    """Return how the names of events go on that begin so, of the last few minutes."""
    return [row[0] for row in await database.fetch(NEWLY_TOLD, beginning)]


async def minute_now(database: Database) -> int:
    """Return the minute of the database's clock, since the Unix epoch."""
    row = await database.fetchrow(MINUTE)
    assert row is not None, "it has one row"
    minute: int = row[0]
    return minute


async def forget(database: Database, before_minute: int) -> None:
    """Delete what is older than the period that levels look at."""
    for statement in FORGET:
        await database.execute(statement, before_minute)
