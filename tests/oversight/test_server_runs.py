"""Starts and stops of servers as rows, and the entries that tell them: pure rules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from ledger.entry import rfc3339
from server.settings.told import ToldSettings
from server.trails.own.server_payloads import ServerStart, ServerStarted, ServerStopped
from server.trails.own.server_runs import (
    Act,
    EarlierStart,
    KnownRuns,
    Reason,
    ServerName,
    StartedRun,
    StoppedRun,
    acts_of,
    changes,
    first_starts,
    run_row,
    runs_told,
)
from server.trails.own.staging import read_row

NOON = datetime(2026, 7, 3, 12, tzinfo=UTC)
NOTHING = KnownRuns({}, None, frozenset(), {})


def settings(data_dir: str = "/srv/q", workers: int = 1, token: str | None = "aa") -> ToldSettings:
    values: dict[str, str | int | float | bool | None] = {
        "QUIRE_DATA_DIR": data_dir,
        "QUIRE_WORKERS": workers,
    }
    return ToldSettings(values, {"QUIRE_METRICS_TOKEN": token})


def started(run: str, host: str = "one", told: ToldSettings | None = None) -> StartedRun:
    return StartedRun(run, host, "1.0", 1, told or settings())


def stopped(run: str, reason: Reason = "SIGTERM") -> StoppedRun:
    return StoppedRun(run, "one", reason)


def entries(
    acts: Sequence[Act], known: KnownRuns = NOTHING
) -> tuple[list[ServerStarted], list[ServerStopped]]:
    """The entries that tell acts of one second each, through their rows."""
    rows = [run_row(7, NOON + timedelta(seconds=number), act) for number, act in enumerate(acts)]
    staged = [(row, body) for row in rows if (body := read_row(row)) is not None]
    assert len(staged) == len(acts)
    told = list(runs_told(acts_of(staged), known))
    starts = [one for one in told if isinstance(one, ServerStarted)]
    stops = [one for one in told if isinstance(one, ServerStopped)]
    assert told == [*starts, *stops], "a stop never stands before its start"
    return starts, stops


def only(told: Sequence[ServerStarted]) -> ServerStart:
    (entry,) = told
    return entry.starts[-1]


def known(start: EarlierStart, *stops: str, seen: str | None = None) -> KnownRuns:
    found = {} if seen is None else {start.server: seen}
    return KnownRuns({start.server: start}, start, frozenset(stops), found)


BEFORE = EarlierStart(rfc3339(NOON - timedelta(days=1)), "one", "r0", settings())


def test_the_first_start_has_nothing_to_compare_with() -> None:
    (entry,), stops = entries([started("r1")])
    assert (entry.host, entry.settings["QUIRE_WORKERS"]) == ("one", 1)
    assert entry.secrets == {"QUIRE_METRICS_TOKEN": "aa"}
    (start,) = entry.starts
    assert (start.compared_with, start.changed, start.previous_stop) == (None, None, None)
    assert stops == []


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (settings(), []),
        (settings(workers=4), [("QUIRE_WORKERS", False, 1, 4)]),
        (settings(token="bb"), [("QUIRE_METRICS_TOKEN", True, "set", "set")]),
        (settings(token=None), [("QUIRE_METRICS_TOKEN", True, "set", "not set")]),
        (
            ToldSettings({"QUIRE_DATA_DIR": "/srv/q", "QUIRE_NEW": 7}, {}),
            [
                ("QUIRE_METRICS_TOKEN", True, "set", "not set"),
                ("QUIRE_NEW", False, None, 7),
                ("QUIRE_WORKERS", False, 1, None),
            ],
        ),
        (
            ToldSettings(
                {"QUIRE_DATA_DIR": "/srv/q"},
                {"QUIRE_WORKERS": "cc", "QUIRE_METRICS_TOKEN": "aa"},
            ),
            [("QUIRE_WORKERS", True, "set", "set")],
        ),
    ],
)
def test_a_start_tells_what_changed_since_the_last(
    after: ToldSettings, expected: list[tuple[object, ...]]
) -> None:
    told, _ = entries([started("r1", told=after)], known(BEFORE, "r0"))
    start = only(told)
    assert start.changed is not None
    found = [msgspec.structs.astuple(change) for change in start.changed]
    assert found == expected == [msgspec.structs.astuple(one) for one in changes(settings(), after)]
    assert (start.previous_stop, start.last_seen) == ("orderly", None)
    assert start.compared_with is not None
    assert (start.compared_with.run, start.compared_with.host) == ("r0", "one")


def test_a_start_after_a_kill_says_when_the_run_before_was_seen() -> None:
    seen = rfc3339(NOON - timedelta(hours=1))
    told, _ = entries([started("r1")], known(BEFORE, seen=seen))
    assert (only(told).previous_stop, only(told).last_seen) == ("unknown", seen)
    told, _ = entries([started("r1")], known(BEFORE))
    assert only(told).last_seen == BEFORE.at, "the start itself was seen"
    long_ago = rfc3339(NOON - timedelta(days=9))
    told, _ = entries([started("r1")], known(BEFORE, seen=long_ago))
    assert only(told).last_seen == BEFORE.at


def test_starts_and_stops_between_two_tellings_are_paired() -> None:
    acts: list[Act] = [
        started("r1"),
        stopped("r1", "SIGINT"),
        started("r2"),
        started("r3"),
        stopped("r3"),
    ]
    (entry,), (stops,) = entries(acts)
    assert [one.previous_stop for one in entry.starts] == [None, "orderly", "unknown"]
    assert entry.starts[2].last_seen == entry.starts[1].at
    assert [(one.run, one.reason) for one in stops.stops] == [("r1", "SIGINT"), ("r3", "SIGTERM")]


def test_servers_are_compared_with_themselves_and_new_ones_with_the_last() -> None:
    acts = [
        started("a1", "one"),
        started("b1", "two", settings(workers=2)),
        started("a2", "one"),
        started("c1", "one", settings("/srv/other")),
    ]
    told, _ = entries(acts)
    assert [(one.host, len(one.starts)) for one in told] == [("one", 2), ("two", 1), ("one", 1)]
    compared = {
        start.run: start.compared_with and start.compared_with.run
        for one in told
        for start in one.starts
    }
    assert compared == {"a1": None, "b1": "a1", "a2": "a1", "c1": "a2"}
    assert told[1].starts[0].previous_stop is None, "no run of this server is known"
    staged = [(NOON + timedelta(seconds=number), act) for number, act in enumerate(acts)]
    assert first_starts(staged)[ServerName("one", "/srv/q")] == NOON


def test_a_flood_of_starts_is_told_in_few_bounded_entries() -> None:
    told, stops = entries([started(f"r{number}") for number in range(1_000)])
    assert ([len(one.starts) for one in told], stops) == ([100] * 10, [])
    everything = settings()._replace(values={f"QUIRE_{number}": "x" for number in range(100)})
    wild = [
        started(f"r{number}", told=(settings(), everything)[number % 2]) for number in range(60)
    ]
    told, _ = entries(wild)
    sizes = [len(msgspec.json.encode(one)) for one in told]
    assert sum(len(one.starts) for one in told) == 60
    assert max(sizes) < 500_000
