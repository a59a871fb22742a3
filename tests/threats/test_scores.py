"""Threat scores and levels at their borders, beyond the published cases."""

from __future__ import annotations

import pytest

from server.threats.levels import threat_level
from server.threats.scores import BLOCKED, PATTERNS, ThreatScore, Weighed, weigh


def scored(**event: object) -> ThreatScore:
    return weigh(Weighed(**{"event_type": "", **event}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "score"),
    [
        ({}, 0),
        ({"reason": None}, 0),
        ({"reason": ""}, 0),
        ({"event_type": "blocked"}, 0),
        ({"event_type": "SANITIZED"}, 10),
        ({"event_type": "RATE_LIMIT_EXCEEDED"}, 20),
        ({"recent_blocked": 10}, 0),
        ({"recent_blocked": 11}, 30),
        ({"query_chars": 1_500}, 0),
        ({"query_chars": 1_501}, 10),
        ({"reason": "a SyStEm PrOmPt"}, 5),
        ({"reason": "base64 base64"}, 5),
        ({"reason": "system  prompt"}, 0),
        ({"reason": " ".join(PATTERNS[:4])}, 20),
        ({"reason": " ".join(PATTERNS)}, 20),
        ({"address_is_blocked": True}, 20),
    ],
)
def test_each_part_at_its_border(event: dict[str, object], score: int) -> None:
    assert scored(**event).score == score


def test_the_score_ends_at_a_hundred_and_its_parts_do_not() -> None:
    found = scored(
        event_type="INJECTION_DETECTED",
        reason=" ".join(PATTERNS),
        query_chars=2_000,
        address_is_blocked=True,
        recent_blocked=11,
    )
    assert (found.score, found.points) == (100, 130)
    assert found.parts == {
        "event": 50,
        "many_blocked": 30,
        "patterns": 20,
        "blocked_address": 20,
        "long_query": 10,
    }


def test_an_alert_is_due_from_75_on() -> None:
    below = scored(event_type=BLOCKED, recent_blocked=11, query_chars=1_501)
    above = scored(event_type=BLOCKED, recent_blocked=11, reason="base64, bypass, override")
    assert (below.score, below.should_alert, below.is_anomaly) == (70, False, False)
    assert (above.score, above.should_alert, above.is_anomaly) == (75, True, True)


def test_more_than_a_hundred_recent_blocked_events_are_an_anomaly_without_an_alert() -> None:
    assert not scored(recent_blocked=100).is_anomaly
    found = scored(recent_blocked=101)
    assert (found.score, found.is_anomaly, found.should_alert) == (30, True, False)


@pytest.mark.parametrize(
    ("serious", "blocked", "level"),
    [
        (0, 0, "LOW"),
        (0, 5, "LOW"),
        (1, 0, "MEDIUM"),
        (0, 6, "MEDIUM"),
        (0, 20, "MEDIUM"),
        (6, 0, "HIGH"),
        (0, 50, "HIGH"),
        (10, 50, "HIGH"),
        (11, 0, "CRITICAL"),
        (0, 51, "CRITICAL"),
    ],
)
def test_the_level_at_its_borders(serious: int, blocked: int, level: str) -> None:
    assert threat_level(serious, blocked) == level
