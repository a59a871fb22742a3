"""The cases of threats in qwed_cases.jsonl: scores of events, levels of periods, another's org.

``CASES_DIR`` names another folder with a file of the same name and form.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from server.threats.levels import threat_level
from server.threats.scores import BLOCKED, ThreatScore, Weighed, weigh
from tests.support.cases import read_cases
from tests.support.serving import Server

ALL: Final = read_cases("qwed_cases.jsonl")
CASES: Final = [case for case in ALL if case["module"] == "threat"]
OTHERS: Final = [case for case in ALL if case["op"] == "GET /admin/security/threats/{org}"]


def cases(op: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in CASES if case["op"] == op]


def last_score(events: list[dict[str, Any]]) -> ThreatScore:
    """The score of the last of these events, which happened within ten minutes in one org."""
    blocked = 0
    score = weigh(Weighed(""))
    for event in events:
        score = weigh(
            Weighed(
                event["event_type"],
                event["reason"],
                event["query_len"],
                event["ip"] is not None and event["blacklisted"],
                blocked,
            )
        )
        blocked += event["event_type"] == BLOCKED
    return score


def test_the_file_has_cases_of_both_kinds_and_no_other() -> None:
    assert {case["op"] for case in CASES} == {"analyze_security_event", "threat_level"}


@pytest.mark.parametrize("case", cases("analyze_security_event"))
def test_the_score_is_that_of_qwed(case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    found = last_score(given if isinstance(given, list) else [given])
    answer = {
        "threat_score": found.score,
        "is_anomaly": found.is_anomaly,
        "should_alert": found.should_alert,
        "details": found.details(),
    }
    assert {name: answer[name] for name in expected} == expected


@pytest.mark.parametrize("case", cases("threat_level"))
def test_the_level_is_that_of_qwed(case: dict[str, Any]) -> None:
    given = case["input"]
    level = threat_level(given["high_or_critical_events"], given["blocked_events"])
    assert level == case["expected"]


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in OTHERS])
def test_the_threats_of_another_org_are_refused(
    case: dict[str, Any], shared_server: Server
) -> None:
    assert case["input"] == {"caller": "admin of OTHER org"}
    _, key = shared_server.create_org()
    path = case["op"].removeprefix("GET ").replace("{org}", shared_server.org)
    assert shared_server.request("GET", path, key=key).status == case["expected"]["http"]
