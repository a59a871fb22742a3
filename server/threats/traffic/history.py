"""The counts of each minute in PostgreSQL: added to by all processes, kept for some weeks.

Nothing here has a MAC: whoever can write these rows can raise a false alarm or hide one, and opens
nothing. The tables are logged ones: after a crash of the database nothing is learnt anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from ledger.storage.database import Connection
from server.threats.traffic.anomalies import (
    DAY_MINUTES,
    GROWTH_WEEKS,
    HOUR_MINUTES,
    NEAR_MINUTES,
    WEEK_DAYS,
)

KEPT_MINUTES: Final = 2 * HOUR_MINUTES
"""Counts of the last hours stand one minute a row; earlier ones one hour a row."""
KEPT_HOURS: Final = 24 * (WEEK_DAYS + 1)
KEPT_DAYS: Final = 7 * GROWTH_WEEKS + 2
MAX_JUDGED: Final = 5_000
"""Orgs, keys and addresses whose minutes one look judges."""
ORG_PART: Final = 5
"""Keys and addresses of one org are at most this part of all."""

# In one order of locks: several processes add counts of the same subjects at once.
ADD_SUBJECTS: Final = """
INSERT INTO threat_subjects AS s
    (org_id, kind, name, network, admitted, first_minute, last_minute)
SELECT n.org_id, n.kind, n.name, n.network, n.admitted, $6, $6
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::boolean[])
     AS n (org_id, kind, name, network, admitted)
ORDER BY n.org_id, n.kind, n.name
ON CONFLICT (org_id, kind, name) DO UPDATE
SET last_minute = excluded.last_minute, admitted = s.admitted OR excluded.admitted
WHERE s.last_minute < excluded.last_minute OR (excluded.admitted AND NOT s.admitted)"""
ADD_MINUTES: Final = """
INSERT INTO threat_minutes AS m (minute, subject_id, requests, refusals, failures)
SELECT $7, s.id, n.requests, n.refusals, n.failures
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::int[], $5::int[], $6::int[])
     AS n (org_id, kind, name, requests, refusals, failures)
JOIN threat_subjects s ON s.org_id = n.org_id AND s.kind = n.kind AND s.name = n.name
ORDER BY s.id
ON CONFLICT (minute, subject_id) DO UPDATE SET requests = m.requests + excluded.requests,
    refusals = m.refusals + excluded.refusals, failures = m.failures + excluded.failures"""
# Released at the end of the transaction, or of its connection.
LEAD: Final = "SELECT pg_try_advisory_xact_lock(73058, 7)"
BUSY: Final = """
SELECT s.id, s.org_id, s.kind, left(s.name, 100), left(s.network, 100), s.admitted, s.first_minute,
       b.requests, b.refusals, b.failures, a.requests, a.refusals, a.failures
FROM threat_minutes a
JOIN threat_minutes b ON b.subject_id = a.subject_id AND b.minute = a.minute - 1
JOIN threat_subjects s ON s.id = a.subject_id
WHERE a.minute = $1 AND (least(a.requests, b.requests) >= $2 OR least(a.refusals, b.refusals) >= $2
                         OR least(a.failures, b.failures) >= $2)
ORDER BY least(a.refusals, b.refusals) DESC, a.subject_id LIMIT $3"""
HOUR: Final = """
SELECT subject_id, array_agg(requests), array_agg(refusals), array_agg(failures)
FROM threat_minutes WHERE subject_id = ANY($1::bigint[]) AND minute BETWEEN $2 AND $3
GROUP BY subject_id"""
# $3 is the minute that is judged; ``ago`` is 720 in the same minute of another day, more before it.
DAYS: Final = """
SELECT h.subject_id, max(u.requests) FILTER (WHERE t.ago % 1440 <= 720 + $4),
       max(u.refusals) FILTER (WHERE t.ago % 1440 <= 720 + $4),
       max(u.failures) FILTER (WHERE t.ago % 1440 <= 720 + $4),
       array_agg(u.requests) FILTER (WHERE t.ago % 1440 > 720 + $4),
       array_agg(u.refusals) FILTER (WHERE t.ago % 1440 > 720 + $4),
       array_agg(u.failures) FILTER (WHERE t.ago % 1440 > 720 + $4)
FROM threat_hours h
CROSS JOIN LATERAL unnest(h.minutes, h.requests, h.refusals, h.failures)
    AS u (minute, requests, refusals, failures)
CROSS JOIN LATERAL (SELECT $3 - (h.hour * 60 + u.minute) + 720 AS ago) t
WHERE h.subject_id = ANY($1::bigint[]) AND h.hour = ANY($2::int[])
  AND t.ago % 1440 BETWEEN 720 - $4 AND 720 + $4 + 60
GROUP BY h.subject_id, t.ago / 1440"""
COMPACT: Final = """
WITH ended AS (DELETE FROM threat_minutes WHERE minute < $1 RETURNING *),
days AS (
    INSERT INTO threat_days AS d (subject_id, day, requests, refusals, failures)
    SELECT subject_id, minute / 1440, sum(requests), sum(refusals), sum(failures)
    FROM ended GROUP BY 1, 2
    ON CONFLICT (subject_id, day) DO UPDATE SET requests = d.requests + excluded.requests,
        refusals = d.refusals + excluded.refusals, failures = d.failures + excluded.failures)
INSERT INTO threat_hours AS h (subject_id, hour, minutes, requests, refusals, failures)
SELECT subject_id, minute / 60, array_agg((minute % 60)::smallint), array_agg(requests),
       array_agg(refusals), array_agg(failures)
FROM ended GROUP BY 1, 2
ON CONFLICT (subject_id, hour) DO UPDATE SET minutes = h.minutes || excluded.minutes,
    requests = h.requests || excluded.requests, refusals = h.refusals || excluded.refusals,
    failures = h.failures || excluded.failures"""
# A week in which nothing happened that day counts as zero, if the subject was known by then.
WEEKS: Final = """
SELECT s.id, s.org_id, s.kind, left(s.name, 100), left(s.network, 100), s.admitted, s.first_minute,
       d.day, d.requests, d.refusals, d.failures,
       array_agg(coalesce(p.requests, 0)), array_agg(coalesce(p.refusals, 0)),
       array_agg(coalesce(p.failures, 0))
FROM threat_days d JOIN threat_subjects s ON s.id = d.subject_id
CROSS JOIN generate_series(1, $3) week
LEFT JOIN threat_days p ON p.subject_id = d.subject_id AND p.day = d.day - 7 * week
WHERE d.day = ANY($1::int[]) AND d.day - 7 * week > s.first_minute / 1440
  AND greatest(d.requests, d.refusals, d.failures) >= $2
GROUP BY s.id, d.subject_id, d.day LIMIT $4"""
TOO_MANY: Final = """
SELECT id FROM (
    SELECT id, row_number() OVER (PARTITION BY org_id ORDER BY last_minute DESC, id DESC) AS of_org,
           row_number() OVER (ORDER BY last_minute DESC, id DESC) AS of_all
    FROM threat_subjects WHERE kind <> 'org') ranked
WHERE of_org > $1 OR of_all > $2"""
FORGET: Final = (
    "DELETE FROM threat_hours WHERE hour < $1 / 60",
    "DELETE FROM threat_days WHERE day < $1 / 1440",
    "DELETE FROM threat_subjects WHERE last_minute < $1",
)
DROP: Final = (
    "DELETE FROM threat_minutes WHERE subject_id = ANY($1::bigint[])",
    "DELETE FROM threat_hours WHERE subject_id = ANY($1::bigint[])",
    "DELETE FROM threat_days WHERE subject_id = ANY($1::bigint[])",
    "DELETE FROM threat_subjects WHERE id = ANY($1::bigint[])",
)


class TrafficSubject(NamedTuple):
    """Whose requests are counted: an org (0: the installation), a key or an address of an org."""

    org_id: int
    kind: str
    name: str
    network: str = ""


class MinuteTally(NamedTuple):
    """Counts: requests that were let in, refusals, and failures."""

    requests: int = 0
    refusals: int = 0
    failures: int = 0


class BusySubject(NamedTuple):
    """Somebody with enough events in two consecutive minutes to be judged."""

    id: int
    subject: TrafficSubject
    admitted: bool
    first_minute: int
    earlier: MinuteTally
    later: MinuteTally


class EarlierDay(NamedTuple):
    """The largest counts around a time of another day, and those of the hour before that."""

    most: MinuteTally
    hour: tuple[list[int], list[int], list[int]]


class SubjectDay(NamedTuple):
    """A day of somebody, and the same weekdays of the weeks before, as far as they are known."""

    subject: TrafficSubject
    day: int
    total: MinuteTally
    weeks: tuple[list[int], list[int], list[int]]


class TrafficHistory:
    """The counts, in the transaction of a connection. Methods raise asyncpg's errors."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, minute: int, counts: Mapping[TrafficSubject, MinuteTally]) -> None:
        """Add counts to a minute."""
        subjects = sorted(counts)
        orgs, kinds, names, networks = (list(part) for part in zip(*subjects, strict=True))
        tallies = [counts[subject] for subject in subjects]
        admitted = [tally.requests > 0 for tally in tallies]
        await self._connection.execute(ADD_SUBJECTS, orgs, kinds, names, networks, admitted, minute)
        numbers = zip(*tallies, strict=True)
        await self._connection.execute(ADD_MINUTES, orgs, kinds, names, *numbers, minute)

    async def lead(self) -> bool:
        """Return whether this transaction alone judges now."""
        return bool(await self._connection.fetchval(LEAD))

    async def busy(self, minute: int, least: int) -> list[BusySubject]:
        """Return who has so many events of one count in a minute and in the one before."""
        rows = await self._connection.fetch(BUSY, minute, least, MAX_JUDGED)
        return [
            BusySubject(
                row[0],
                TrafficSubject(*row[1:5]),
                row[5],
                row[6],
                MinuteTally(*row[7:10]),
                MinuteTally(*row[10:]),
            )
            for row in rows
        ]

    async def hours(
        self, ids: Sequence[int], minute: int
    ) -> dict[int, tuple[list[int], list[int], list[int]]]:
        """Return the counts of the hour before a minute and the one before it, by subject."""
        rows = await self._connection.fetch(HOUR, ids, minute - HOUR_MINUTES - 1, minute - 2)
        return {row[0]: tuple(row)[1:] for row in rows}

    async def days(self, ids: Sequence[int], minute: int) -> dict[int, list[EarlierDay]]:
        """Return the counts around the same time of seven days, by subject.

        A day in which nothing happened then is missing.
        """
        times = [minute - DAY_MINUTES * day for day in range(1, WEEK_DAYS + 1)]
        begin, end = -NEAR_MINUTES - HOUR_MINUTES, NEAR_MINUTES
        hours = {at // 60 for time in times for at in (time + begin, time + end - 60, time + end)}
        rows = await self._connection.fetch(DAYS, ids, sorted(hours), minute, NEAR_MINUTES)
        found: dict[int, list[EarlierDay]] = {}
        for row in rows:
            most = MinuteTally(*(count or 0 for count in row[1:4]))
            hour = (row[4] or [], row[5] or [], row[6] or [])
            found.setdefault(row[0], []).append(EarlierDay(most, hour))
        return found

    async def weeks(self, days: Sequence[int], least: int) -> list[SubjectDay]:
        """Return days with so many events of one count, with the weeks before them."""
        rows = await self._connection.fetch(WEEKS, days, least, GROWTH_WEEKS, MAX_JUDGED)
        return [
            SubjectDay(TrafficSubject(*row[1:5]), row[7], MinuteTally(*row[8:11]), tuple(row)[11:])
            for row in rows
        ]

    async def compact(self, minute: int) -> None:
        """Put the counts of whole hours that ended two hours ago into a row for each hour."""
        await self._connection.execute(COMPACT, (minute - KEPT_MINUTES) // 60 * 60)

    async def bound(self, most: int) -> None:
        """Drop the keys and addresses that were seen longest ago, if there are too many."""
        rows = await self._connection.fetch(TOO_MANY, max(most // ORG_PART, 1), most)
        for statement in DROP if rows else ():
            await self._connection.execute(statement, [row[0] for row in rows])

    async def forget(self, minute: int) -> None:
        """Delete what is older than all that is compared."""
        hours, days = minute - 60 * KEPT_HOURS, minute - DAY_MINUTES * KEPT_DAYS
        for statement, before in zip(FORGET, (hours, days, days), strict=True):
            await self._connection.execute(statement, before)
