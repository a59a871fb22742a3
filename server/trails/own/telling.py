"""Merges waiting rows of all processes into the payloads of entries; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final, TypeVar

import msgspec

from ledger.entry import rfc3339, to_datetime
from ledger.storage.pending_acts import PendingAct
from server.trails.own.payloads import (
    AuthRefused,
    BundleCreated,
    BundleMade,
    DoneVerification,
    OwnPayload,
    PayloadOpened,
    ReadSummary,
    RefusedRequests,
    RouteReads,
    SilentHours,
    VerificationDone,
)
from server.trails.own.recorder import OTHERS, ActTally
from server.trails.own.runs import runs
from server.trails.own.staging import BUNDLED, OPENED, READ, REFUSED, VERIFIED, ActRow

MAX_LISTED: Final = 500
"""Reads, verdicts or bundles that one entry lists."""
MAX_SOURCES_LISTED: Final = 100
MAX_RUNS: Final = 10_000
"""Runs of seqs that one entry lists: some 300 kB."""
HOUR: Final = timedelta(hours=1)
Staged = tuple[PendingAct, ActRow]
T = TypeVar("T")


def hour_of(moment: datetime) -> datetime:
    """Return when the hour of a time began."""
    return moment.replace(minute=0, second=0, microsecond=0)


def told(kind: str, staged: Sequence[Staged], last_summary: datetime | None) -> list[OwnPayload]:
    """Return the payloads that tell rows of one org and kind, which are ordered by time.

    ``last_summary`` is the hour of the org's newest summary of reads, None without one.
    """
    if kind == READ:
        return list(_summaries(staged, last_summary))
    if kind == REFUSED:
        return [
            _refusals(hour, list(rows))
            for hour, rows in groupby(staged, lambda one: hour_of(one[0].at))
        ]
    since = rfc3339(staged[0][0].at)
    until = rfc3339(to_datetime(max(row.until_us for _, row in staged)))
    if kind == OPENED:
        return list(_opened(staged, since, until))
    if kind == VERIFIED:
        return list(_verified(_items(staged), since, until))
    assert kind == BUNDLED, "there is no other kind"
    return list(_bundles(_items(staged), since, until))


def _items(staged: Iterable[Staged]) -> Iterator[list[Any]]:
    for _, row in staged:
        yield from row.items


def _parts(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[first : first + size] for first in range(0, len(items), size)]


def _summaries(staged: Sequence[Staged], last: datetime | None) -> Iterator[OwnPayload]:
    for hour, rows in groupby(staged, lambda one: hour_of(one[0].at)):
        tallies: dict[tuple[str, str], ActTally] = {}
        for key, route, count, first_seq, last_seq in _items(rows):
            _add(tallies.setdefault((key, route), ActTally()), count, first_seq, last_seq)
        reads = [
            RouteReads(key=f"key:{key}", route=route, count=tally.count, **_bounds(tally))
            for (key, route), tally in sorted(tallies.items())
        ]
        silent, parts = _silence(last, hour), _parts(reads, MAX_LISTED)
        for number, part in enumerate(parts, 1):
            yield ReadSummary(
                hour=rfc3339(hour), silent=silent, reads=list(part), part=number, parts=len(parts)
            )
        last = max(hour, last or hour)


def _silence(last: datetime | None, hour: datetime) -> SilentHours | None:
    if last is None or hour <= last + HOUR:
        return None
    first = last + HOUR
    return SilentHours(since=rfc3339(first), hours=int((hour - first) / HOUR))


def _add(tally: ActTally, count: int, first: int, last: int) -> None:
    tally.count += count
    if first >= 0:
        tally.saw(first, last)


def _bounds(tally: ActTally) -> dict[str, int | None]:
    if tally.first < 0:
        return {"first_seq": None, "last_seq": None}
    return {"first_seq": tally.first, "last_seq": tally.last}


def _refusals(hour: datetime, staged: Sequence[Staged]) -> AuthRefused:
    counts: dict[tuple[str, str], int] = {}
    for source, reason, count in _items(staged):
        counts[source, reason] = counts.get((source, reason), 0) + count
    most = sorted(counts.items(), key=lambda one: (one[0][0] == OTHERS, -one[1], one[0]))
    listed, rest = most[:MAX_SOURCES_LISTED], most[MAX_SOURCES_LISTED:]
    others: dict[str, int] = {}
    for (_, reason), count in rest:
        others[reason] = others.get(reason, 0) + count
    shown = [
        RefusedRequests(source=source, reason=reason, count=count)
        for (source, reason), count in listed
    ]
    shown += [
        RefusedRequests(source=OTHERS, reason=reason, count=count)
        for reason, count in sorted(others.items())
    ]
    return AuthRefused(hour=rfc3339(hour), count=sum(counts.values()), refused=shown)


def _opened(staged: Sequence[Staged], since: str, until: str) -> Iterator[OwnPayload]:
    seqs: dict[str, set[int]] = {}
    unlisted: dict[str, int] = {}
    for key, found, more in _items(staged):
        known = seqs.setdefault(key, set())
        for first, last in found:
            known.update(range(first, last + 1))
        unlisted[key] = unlisted.get(key, 0) + more
    for key, of_key in sorted(seqs.items()):
        parts = _parts(list(runs(sorted(of_key))), MAX_RUNS) or [[]]
        for number, part in enumerate(parts, 1):
            yield PayloadOpened(
                key=f"key:{key}",
                since=since,
                until=until,
                count=sum(last - first + 1 for first, last in part),
                runs=list(part),
                unlisted=unlisted[key] if number == 1 else 0,
                part=number,
                parts=len(parts),
            )


def _verified(items: Iterable[list[Any]], since: str, until: str) -> Iterator[OwnPayload]:
    tallies: dict[bytes, tuple[list[Any], ActTally]] = {}
    for *place, count, first, last in items:
        _, tally = tallies.setdefault(msgspec.msgpack.encode(place), (place, ActTally()))
        _add(tally, count, first, last)
    done = [
        DoneVerification(
            key=f"key:{key}",
            scope=scope,
            verdict=verdict,
            checks=dict(checks),
            fault_count=faults,
            count=tally.count,
            **_bounds(tally),
        )
        for (key, scope, verdict, checks, faults), tally in tallies.values()
    ]
    for part in _parts(done, MAX_LISTED):
        yield VerificationDone(since=since, until=until, done=list(part))


def _bundles(items: Iterable[list[Any]], since: str, until: str) -> Iterator[OwnPayload]:
    counts: dict[bytes, tuple[list[Any], int]] = {}
    for item in items:
        name = msgspec.msgpack.encode(item)
        counts[name] = item, counts.get(name, (item, 0))[1] + 1
    made = [
        BundleMade(
            key=f"key:{key}",
            first_seq=first,
            last_seq=last,
            entries=entries,
            disclosed=list(disclosed),
            count=count,
        )
        for (key, first, last, entries, disclosed), count in counts.values()
    ]
    for part in _parts(made, MAX_LISTED):
        yield BundleCreated(since=since, until=until, bundles=list(part))
