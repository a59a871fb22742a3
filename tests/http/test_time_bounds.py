"""Time bounds over HTTP are exact in every parameter that takes one, wherever the entries are."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.offices import Bundle, Office, office
from tests.support.raw_http import Line

COUNT = 50


@pytest.fixture(scope="module")
def here(shared_server: Any) -> Office:
    """A signed trail whose entries were written in one batch, at one time."""
    return office(shared_server, count=COUNT)


def anchored_at(here: Office) -> str:
    path = f"/v1/orgs/{here.org}/entries?limit=1"
    return str(here.server.request("GET", path, key=here.key).json()["entries"][0]["anchored_at"])


def listed(here: Office, **bounds: str) -> int:
    path = f"/v1/orgs/{here.org}/entries?limit=1000&{urlencode(bounds)}"
    answer = here.server.request("GET", path, key=here.key)
    assert answer.status == 200, answer.body
    return len(answer.json()["entries"])


def bundled(here: Office, **bounds: str) -> int:
    """The number of entries in a bundle with these bounds; 0 if none matches."""
    answer = here.request_bundle(filter=bounds)
    if answer.status == 404:
        return 0
    assert answer.status == 200, answer.body
    return len(Bundle(answer).seqs())


COUNTERS = {"list": listed, "bundle": bundled}


@pytest.mark.parametrize("count", COUNTERS.values(), ids=COUNTERS)
@pytest.mark.parametrize("digits", ["001", "000000000000000000000000000001", "9", "999999999999"])
def test_a_fraction_of_a_microsecond_counts(here: Office, count: Any, digits: str) -> None:
    moment = anchored_at(here).removesuffix("Z")
    assert count(here, until=f"{moment}{digits}Z") == COUNT
    assert count(here, since=f"{moment}{digits}Z") == 0
    assert count(here, since=f"{moment}000Z", until=f"{moment}{digits}Z") == COUNT


@pytest.mark.parametrize("count", COUNTERS.values(), ids=COUNTERS)
def test_the_time_itself_is_included_by_since_and_excluded_by_until(
    here: Office, count: Any
) -> None:
    moment = anchored_at(here)
    for spelling in (moment, moment.lower(), moment.replace("Z", "+00:00"), moment.replace("T", " "),
                     moment.replace("Z", "000Z"), moment.replace("Z", "-00:00")):  # fmt: skip
        assert (count(here, since=spelling), count(here, until=spelling)) == (COUNT, 0), spelling


@pytest.mark.parametrize("count", COUNTERS.values(), ids=COUNTERS)
@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("2016-12-31T23:59:60Z", "9999-12-31T23:59:59.9999999Z"),
        ("2017-01-01T00:59:60.5+01:00", "9999-12-31T23:59:60Z"),
        ("0001-01-01T00:00:00Z", "9999-12-31"),
        ("0001-01-01T00:00:00-23:59", "9999-12-31T23:58:59+23:59"),
        ("2024-02-29", "4253-01-01T00:00:00.0000001Z"),
    ],
)
def test_times_at_the_ends_of_the_calendar_are_exact_bounds(
    here: Office, count: Any, early: str, late: str
) -> None:
    assert count(here, since=early, until=late) == COUNT
    assert count(here, since=late) == 0
    assert count(here, until=early) == 0


@pytest.mark.parametrize("text", [
    "2026-01-31T24:00:00Z", "2026-01-31T12:00:60Z", "2026-01-31T12:00:00+24:00", "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "2026-01-31T12:00:00,5Z", "2026-1-31T12:00:00Z",
    "2025-02-29T00:00:00Z", "٢٠٢٦-٠١-٣١T12:00:00Z", "2026-01-31T12:00:00Z\n", "2026-W05-6", "20260131T120000Z",
    "2026-01-31T12", "2026-01-31T12:00:00Z2026-01-31T12:00:00Z", "2026-01-31T12:00:00." + "1" * 64 + "Z",
])  # fmt: skip
def test_an_invalid_time_is_refused_in_every_parameter(here: Office, text: str) -> None:
    for name in ("since", "until"):
        body = {"filter": {name: text}}
        answer = here.server.request("POST", f"/v1/orgs/{here.org}/bundles", body, key=here.key)
        assert (answer.status, name in answer.json()["detail"]) == (400, True), text
        with Line(here.server) as line:
            quoted = "".join(f"%{byte:02x}" for byte in text.encode())
            line.send(
                f"GET /v1/orgs/{here.org}/entries?{name}={quoted} HTTP/1.1\r\nhost: x\r\n"
                f"x-api-key: {here.key}\r\nconnection: close\r\n\r\n".encode()
            )
            listed = line.answer()
        assert (listed.status, name in listed.json()["detail"]) == (400, True), text


@pytest.mark.parametrize("text", [
    "2016-12-31T23:59:60Z", "9999-12-31T23:59:59.9999999-12:00", "0001-01-01T00:00:00+23:59",
    "2026-01-31t12:00:00." + "1" * 30 + "z", "2026-01-31T12:00:00-00:00", "2026-01-31T12:00:00.1234567891+23:59",
])  # fmt: skip
def test_an_event_s_time_is_kept_as_it_was_sent(here: Office, text: str) -> None:
    org, key = here.server.create_org()
    path = f"/v1/orgs/{org}/entries"
    made = here.server.request("POST", path, {"timestamp": text}, key=key)
    assert made.status == 201, made.body
    shown = here.server.request("GET", f"{path}/{made.json()['record_id']}", key=key).json()
    assert shown["timestamp"] == text
