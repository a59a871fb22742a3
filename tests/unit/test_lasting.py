"""Lasting conditions are logged once, then at growing intervals, and once at their end."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ledger.core.lasting import (
    FIRST_S,
    LONGEST_S,
    MAX_KEYS,
    QUIET_S,
    Lasting,
    LastingByKey,
    end_silent,
    plain,
)


class Time:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    def events(self) -> list[str]:
        return [event for event, _ in self.lines]


def test_a_condition_is_reported_at_growing_intervals() -> None:
    now, log = Time(), Log()
    condition = Lasting("it fails", "it works", clock=now)
    told_s: list[int] = []
    for second in range(24 * 3_600):
        now.now_s = 1_000.0 + second
        condition.failed(log, f"reason {second}")
        if len(told_s) < len(log.lines):
            told_s.append(second)
    pauses = [after - before for before, after in pairwise(told_s)]
    assert pauses[:4] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S]
    assert pauses[-1] == LONGEST_S
    assert len(told_s) < 35
    assert log.lines[0] == ("it fails", {"reason": "reason 0"})
    assert log.lines[1][1]["times"] == FIRST_S + 1
    assert log.lines[1][1]["for_seconds"] == FIRST_S


def test_its_end_says_how_long_it_lasted_and_how_often_it_failed() -> None:
    now, log = Time(), Log()
    condition = Lasting("it fails", "it works", clock=now)
    for _ in range(11):
        condition.failed(log, "why", place="here", exc_info=ValueError())
        now.now_s += 1
    now.now_s += QUIET_S
    condition.fine()
    condition.fine()
    assert log.lines[1:] == [("it works", {"lasted_seconds": 10.0, "times": 11, "place": "here"})]
    condition.failed(log, "again")
    assert log.events() == ["it fails", "it works", "it fails"]


def test_an_intermittent_fault_is_one_condition() -> None:
    now, log = Time(), Log()
    condition = Lasting("it fails", "it works", clock=now)
    for _ in range(30):
        condition.failed(log, "why")
        now.now_s += QUIET_S / 5
        condition.fine()
    assert log.events() == ["it fails"]


def test_a_condition_that_never_failed_has_no_end() -> None:
    log = Log()
    condition = Lasting("it fails", "it works")
    condition.fine()
    assert not condition.lasts
    assert log.lines == []


def test_a_short_fault_is_no_lasting_condition() -> None:
    now, log, early = Time(), Log(), Log()
    condition = Lasting("it fails", "it works", grace_s=10, clock=now)
    for _ in range(9):
        condition.failed(log, "why", early=early)
        now.now_s += 1
    now.now_s += QUIET_S
    condition.fine()
    assert (early.events(), log.events()) == (["it fails", "it works"], [])
    for _ in range(12):
        condition.failed(log, "why", early=early)
        now.now_s += 1
    now.now_s += QUIET_S
    condition.fine()
    assert early.events() == ["it fails", "it works", "it fails"]
    assert log.events() == ["it fails", "it works"]


def test_a_fault_not_met_any_more_ends_by_itself() -> None:
    now, log = Time(), Log()
    silent = Lasting("requests fail", "requests work", silent_s=10, clock=now)
    condition = Lasting("it fails", "it works", clock=now)
    silent.failed(log, "why")
    condition.failed(log, "why")
    end_silent()
    assert log.events() == ["requests fail", "it fails"]
    now.now_s += 10
    end_silent()
    assert log.events() == ["requests fail", "it fails", "requests work"]


def test_each_of_many_has_a_condition_of_its_own_and_they_are_bounded() -> None:
    now, log = Time(), Log()
    conditions = LastingByKey("it fails", "it works", clock=now)
    for key in (1, 2, 1):
        conditions.failed(key, log, "why", org_id=key)
    now.now_s += QUIET_S
    conditions.failed(2, log, "why", org_id=2)
    conditions.all_fine()
    assert [(event, fields["org_id"]) for event, fields in log.lines] == [
        ("it fails", 1),
        ("it fails", 2),
        ("it works", 1),
    ]
    for key in range(3 * MAX_KEYS):
        conditions.failed(key, log, "why")
    assert len(conditions._by_key) == MAX_KEYS


def test_the_standard_library_s_loggers_get_one_line() -> None:
    lines: list[str] = []
    plain(lambda form, *values: lines.append(form % values))("it fails", reason="x", times=2)
    assert lines == ["it fails (reason: x, times: 2)"]
