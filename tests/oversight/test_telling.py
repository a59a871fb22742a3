"""What the recorder counts, the rows in which it waits, and the entries that tell it: pure rules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.storage.pending_acts import PendingAct
from server.trails.own import recorder as recording
from server.trails.own.payloads import AuthRefused, PayloadOpened, ReadSummary
from server.trails.own.recorder import ActRecorder, MadeBundle, VerifiedPlace
from server.trails.own.staging import READ, read_row, rows_of
from server.trails.own.telling import told

NOON = datetime(2026, 7, 3, 12, tzinfo=UTC)
ORG = 7


class Clock:
    """A clock that a test sets, in seconds since the Unix epoch."""

    def __init__(self) -> None:
        self.now = NOON.timestamp()

    def __call__(self) -> float:
        return self.now


def staged(recorder: ActRecorder) -> list[PendingAct]:
    return [row for window in recorder.take() for row in rows_of(window)]


def entries(rows: Sequence[PendingAct], kind: str, last: datetime | None = None) -> list[Any]:
    pairs = []
    for row in rows:
        body = read_row(row)
        assert body is not None
        if row.kind == kind:
            pairs.append((row, body))
    return told(kind, sorted(pairs, key=lambda pair: pair[0].at), last) if pairs else []


def test_many_reads_by_a_key_in_an_hour_are_one_entry_whatever_process_served_them() -> None:
    rows: list[PendingAct] = []
    for process in range(4):
        clock = Clock()
        recorder = ActRecorder(clock)
        for number in range(25_000):
            recorder.read(ORG, "k", "listEntries")
            if number % 100 == 0:
                recorder.saw(ORG, "k", "listEntries", [process * 10, number])
            clock.now += 0.1
            if number % 50 == 0:
                rows += staged(recorder)
        rows += staged(recorder)
    (summary,) = entries(rows, READ)
    (reads,) = summary.reads
    assert (reads.key, reads.route, reads.count) == ("key:k", "listEntries", 100_000)
    assert (reads.first_seq, reads.last_seq) == (0, 24_900)


def test_each_hour_has_its_own_reads_and_names_the_silent_hours_before() -> None:
    clock = Clock()
    recorder = ActRecorder(clock)
    for hours in (0, 1, 5):
        clock.now = (NOON + timedelta(hours=hours, minutes=59, seconds=59.9)).timestamp()
        recorder.read(ORG, "k", "getHead")
    rows = staged(recorder)
    summaries: list[ReadSummary] = entries(rows, READ, NOON - timedelta(hours=3))
    assert [one.hour[11:13] for one in summaries] == ["12", "13", "17"]
    assert [one.silent and (one.silent.since[11:13], one.silent.hours) for one in summaries] == [
        ("10", 2),
        None,
        ("14", 3),
    ]
    assert all(one.reads[0].count == 1 and one.reads[0].first_seq is None for one in summaries)


def test_refusals_of_any_number_of_sources_are_one_bounded_entry() -> None:
    recorder = ActRecorder(Clock())
    for number in range(10_000):
        source = f"10.{number >> 8}.{number & 255}.0/24"
        recorder.refused(ORG, source, "invalid_key")
        if number == 5:
            for _ in range(50):
                recorder.refused(ORG, source, "invalid_key")
    rows = staged(recorder)
    assert sum(len(row.body) for row in rows) < 20_000
    (entry,) = entries(rows, "refused")
    assert isinstance(entry, AuthRefused)
    assert entry.count == 10_050 == sum(one.count for one in entry.refused)
    assert len(entry.refused) <= 101 + 1
    assert entry.refused[0].count == 51
    assert {one.source for one in entry.refused} >= {recording.OTHERS}


def test_places_and_seqs_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_PLACES", 10)
    monkeypatch.setattr(recording, "MAX_SEQS", 100)
    monkeypatch.setattr(recording, "MAX_BUNDLES", 3)
    recorder = ActRecorder(Clock())
    for number in range(20):
        recorder.read(ORG, f"k{number}", "getHead")
        recorder.opened(ORG, "k", range(number * 50, number * 50 + 50))
        recorder.bundle(MadeBundle(ORG, "k", 0, 1, 2, ()))
    assert recorder.lost == 10 + 17
    (entry,) = entries(staged(recorder), "opened")
    assert (entry.count, entry.runs, entry.unlisted) == (100, [(0, 99)], 900)


def test_opened_payloads_of_a_key_are_runs_and_named_once() -> None:
    clock = Clock()
    recorder = ActRecorder(clock)
    for seqs in ([3, 4, 5], [5, 6, 9], [], [4]):
        recorder.opened(ORG, "a", seqs)
        clock.now += 1
    recorder.opened(ORG, "b", [1])
    first, second = entries(staged(recorder), "opened")
    assert isinstance(first, PayloadOpened)
    assert (first.key, first.runs, first.count) == ("key:a", [(3, 6), (9, 9)], 5)
    assert second.key == "key:b"
    assert first.since < first.until


def test_a_verification_that_is_repeated_is_counted() -> None:
    recorder = ActRecorder(Clock())
    place = VerifiedPlace(ORG, "k", "trail", "verified", (("hashes", True),), 0)
    for number in range(60):
        recorder.verified(place, 0, number)
    recorder.verified(place._replace(verdict="refuted", fault_count=2), 0, 60)
    (entry,) = entries(staged(recorder), "verified")
    assert [(one.verdict, one.fault_count, one.count) for one in entry.done] == [
        ("verified", 0, 60),
        ("refuted", 2, 1),
    ]
    assert (entry.done[0].first_seq, entry.done[0].last_seq) == (0, 59)
    assert entry.done[0].checks == {"hashes": True}


def test_bundles_of_one_selection_are_counted() -> None:
    recorder = ActRecorder(Clock())
    for last in (5, 5, 6):
        recorder.bundle(MadeBundle(ORG, "k", 0, last, last + 1, ("payload",)))
    (entry,) = entries(staged(recorder), "bundled")
    assert [(one.last_seq, one.count) for one in entry.bundles] == [(5, 2), (6, 1)]
    assert entry.bundles[0].disclosed == ["payload"]


def test_a_clock_that_goes_back_loses_nothing() -> None:
    clock = Clock()
    recorder = ActRecorder(clock)
    recorder.read(ORG, "k", "getHead")
    clock.now -= 5_000
    recorder.read(ORG, "k", "getHead")
    (summary,) = entries(staged(recorder), READ)
    assert summary.reads[0].count == 2
