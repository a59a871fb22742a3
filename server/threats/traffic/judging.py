"""Judges the newest minutes and days of all orgs, keys and addresses, and plans an event for odd ones.

One process at a time judges. Of the refusals of an address an event is written in each minute, so that
some minutes of an attack lead to a block; of all else one in an hour, while it lasts. What an address
was let in for never names it by ``address_digest``, by which events are counted for a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from server.threats import metrics
from server.threats.store import NewEvent, SubjectScore
from server.threats.traffic.anomalies import (
    DAY_MINUTES,
    HOUR_MINUTES,
    WARM_UP_MINUTES,
    WEEK_DAYS,
    AnomalyRules,
    Oddity,
    are_notable,
    hour_oddity,
    odd_day,
    odd_minutes,
    odd_stranger,
    rise,
)
from server.threats.traffic.history import (
    BusySubject,
    EarlierDay,
    MinuteTally,
    SubjectDay,
    TrafficHistory,
    TrafficSubject,
)
from server.threats.writing import ADDRESS, DAY, HOUR, KEY, MINUTE, ORG, PlannedEvent

COUNTS: Final = MinuteTally._fields
REFUSALS: Final = COUNTS.index("refusals")
FAILURES: Final = COUNTS.index("failures")
ANOMALY: Final = "traffic_anomaly"
GROWTH: Final = "traffic_growth"
BY_MINUTE: Final = "minutes"
BY_STRANGER: Final = "stranger"
BY_DAY: Final = "day"
ODD_ADDRESS: Final = f"{ANOMALY} {COUNTS[REFUSALS]} {ADDRESS} "
"""How the names of events about the refusals of an address begin; its digest follows."""
Hours = tuple[Sequence[int], Sequence[int], Sequence[int]]
_NONE: Final[Hours] = ((), (), ())


async def odd_now(
    history: TrafficHistory, minute: int, rules: AnomalyRules, system_id: int
) -> list[PlannedEvent]:
    """Return the events of who is odd in a minute, complete or not, and the one before it."""
    busy = await history.busy(minute, rules.least)
    if not busy:
        return []
    metrics.JUDGED.inc(len(busy))
    hours = await history.hours([one.id for one in busy], minute)
    suspects = [
        one
        for one in busy
        if any(
            _observed(one, which, hours.get(one.id, _NONE), rules) >= rules.deviations
            for which in range(len(COUNTS))
        )
    ]
    days = await history.days([one.id for one in suspects], minute)
    known = {one.id: days.get(one.id, []) for one in suspects}
    found = []
    for one in busy:
        for which, rule, oddity in oddities(
            one, hours.get(one.id, _NONE), known.get(one.id, []), minute, rules
        ):
            found.append(planned(one, which, rule, oddity, system_id))
    return found


def _observed(one: BusySubject, which: int, hours: Hours, rules: AnomalyRules) -> float:
    """Return how odd a count is by the hour before it, and observe that for the metric."""
    oddity = hour_oddity((one.earlier[which], one.later[which]), hours[which], rules)
    if oddity >= 0:
        metrics.ODDITY.labels(COUNTS[which]).observe(oddity)
    return oddity


def oddities(
    one: BusySubject, hours: Hours, days: Sequence[EarlierDay], minute: int, rules: AnomalyRules
) -> Iterator[tuple[int, str, Oddity]]:
    """Return which counts of two minutes are odd, and by which rule."""
    age = minute - one.first_minute
    known_days = min(WEEK_DAYS, age // DAY_MINUTES)
    for which in range(len(COUNTS)):
        pair = one.earlier[which], one.later[which]
        oddity = None
        notable = which != FAILURES or are_notable(pair, (one.earlier.requests, one.later.requests))
        if age >= WARM_UP_MINUTES and notable:
            rises = [rise(day.most[which], day.hour[which]) for day in days]
            rises += [0.0] * (known_days - len(rises))
            oddity = odd_minutes(pair, hours[which], rises, rules)
        rule = BY_MINUTE
        if (
            oddity is None
            and which == REFUSALS
            and one.subject.kind == ADDRESS
            and not one.admitted
        ):
            oddity, rule = odd_stranger(pair, rules), BY_STRANGER
        if oddity is not None:
            yield which, rule, oddity


async def grown_days(
    history: TrafficHistory, day: int, rules: AnomalyRules, system_id: int
) -> list[PlannedEvent]:
    """Return the events of who has a day that grew, today so far or yesterday."""
    return [
        grown(one, which, oddity, system_id)
        for one in await history.weeks([day - 1, day], rules.least * HOUR_MINUTES)
        for which in range(len(COUNTS))
        if (oddity := odd_day(one.total[which], one.weeks[which], rules)) is not None
    ]


def planned(
    one: BusySubject, which: int, rule: str, oddity: Oddity, system_id: int
) -> PlannedEvent:
    """Return the event of odd minutes."""
    by_address = (
        which == REFUSALS
        and one.subject.kind == ADDRESS
        and one.later.refusals > one.later.requests
    )
    earlier, later = oddity.seen
    words = (
        f"{earlier:,} and {later:,} {COUNTS[which]} in two minutes {_whose(one.subject)}; usual are "
        f"{oddity.usual[0]:,} to {oddity.usual[1]:,} a minute"
    )
    details = {"rule": rule, **_details(COUNTS[which], oddity)}
    return _event(
        ANOMALY,
        one.subject,
        words,
        details,
        oddity,
        system_id,
        period=MINUTE if by_address else HOUR,
        names_address=by_address,
    )


def grown(one: SubjectDay, which: int, oddity: Oddity, system_id: int) -> PlannedEvent:
    """Return the event of a day that grew."""
    words = (
        f"{oddity.seen[0]:,} {COUNTS[which]} in a day {_whose(one.subject)}; usual on this weekday "
        f"are {oddity.usual[0]:,} to {oddity.usual[1]:,}"
    )
    details = {"rule": BY_DAY, "day": one.day, **_details(COUNTS[which], oddity)}
    return _event(
        GROWTH, one.subject, words, details, oddity, system_id, period=DAY, names_address=False
    )


def _details(count: str, oddity: Oddity) -> dict[str, object]:
    return {
        "what": count,
        "seen": list(oddity.seen),
        "usual": list(oddity.usual),
        "deviations": round(oddity.deviations, 1),
    }


def _event(
    kind: str,
    subject: TrafficSubject,
    words: str,
    details: dict[str, object],
    oddity: Oddity,
    system_id: int,
    *,
    period: int,
    names_address: bool,
) -> PlannedEvent:
    org_id, is_key = subject.org_id or system_id, subject.kind == KEY
    whole = "installation" if not subject.org_id else subject.kind
    details = {"subject": whole, **details}
    if subject.kind == ADDRESS:
        digest = "address_digest" if names_address else "subject_digest"
        details |= {digest: subject.name, "network": subject.network}
    event = NewEvent(org_id, kind, words, oddity.score, subject.name if is_key else None, details)
    parts = msgspec.json.encode({"anomaly": oddity.score}).decode()
    scores = {
        SubjectScore(org_id, ORG, "", "", oddity.score, parts),
        SubjectScore(org_id, subject.kind, subject.name, subject.network, oddity.score, parts),
    }
    name = event_name(kind, f"{details['what']}{details.get('day', '')}", whole, subject.name)
    return PlannedEvent(event, name, period, tuple(sorted(scores)))


def event_name(kind: str, what: str, whole: str, name: str) -> str:
    """Return the name that tells an event from other events of its org."""
    return f"{kind} {what} {whole} {name}"


def _whose(subject: TrafficSubject) -> str:
    if not subject.org_id:
        return "of the installation"
    return {
        ORG: "of the org",
        KEY: f"of API key {subject.name}",
        ADDRESS: f"of an address in {subject.network}",
    }[subject.kind]
