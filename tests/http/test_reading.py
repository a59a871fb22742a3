"""Reading a trail over HTTP: filters, single entries, rights to read, and erasure."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from server.http.routes import entries as routes
from tests.support.reading import ServedTrail
from tests.support.serving import Server

FIELDS = ("event_type", "actor", "subject", "action", "outcome", "data_classification")
VALUES: dict[str, list[str | None]] = {
    "event_type": ["user.login", "invoice.approved", None],
    "actor": ["ada", 'Zoë "Z" O\'Neil', None],
    "subject": ["bob", "漢字/🍃", None, None],
    "action": ["approve", "back\\slash", None],
    "outcome": ["success", "failure"],
    "data_classification": ["internal", None],
}


@pytest.fixture(params=["sealed", "plain"], scope="module")
def served_trail(request: pytest.FixtureRequest, shared_server: Server) -> ServedTrail:
    org, key = shared_server.create_org(request.param)
    cycles = [itertools.cycle(VALUES[name]) for name in FIELDS]
    events = [
        {name: next(cycle) for name, cycle in zip(FIELDS, cycles, strict=True)} | {"n": number}
        for number in range(144)
    ]
    for start in range(0, len(events), 24):
        made = shared_server.request(
            "POST", f"/v1/orgs/{org}/entries", events[start : start + 24], key=key
        )
        assert made.status == 201, made.body
    return ServedTrail(shared_server, org, key, events)


QUERIES = [
    {name: value}
    for name in FIELDS
    for value in [*filter(None, dict.fromkeys(VALUES[name])), "no such value"]
] + [
    {first: str(VALUES[first][0]), second: str(VALUES[second][1])}
    for first, second in itertools.permutations(FIELDS, 2)
    if VALUES[second][1] is not None
] + [{name: str(VALUES[name][0]) for name in FIELDS}]  # fmt: skip


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_every_filter_alone_and_combined_finds_the_matching_entries(
    served_trail: ServedTrail, order: str
) -> None:
    for query in QUERIES:
        expected = [
            event["n"]
            for event in served_trail.events
            if all(event[name] == value for name, value in query.items())
        ]
        expected = expected if order == "asc" else expected[::-1]
        for limit in (5, 100):
            found = served_trail.find(**query, order=order, limit=limit)
            assert [entry["payload"]["n"] for entry in found] == expected, query


def test_an_entry_shows_the_event_and_its_place(served_trail: ServedTrail) -> None:
    entries = served_trail.find(order="asc", limit=1000)
    previous = None
    for seq, (event, entry) in enumerate(zip(served_trail.events, entries, strict=True)):
        assert {name: entry[name] for name in FIELDS} == {name: event[name] for name in FIELDS}
        assert (entry["payload"], entry["payload_format"]) == (event, "json")
        assert (entry["seq"], entry["previous_hash"], entry["erased"]) == (seq, previous, False)
        assert entry["sealed"] is (served_trail.get("").json()["privacy"] == "sealed")
        previous = entry["entry_hash"]
    one = served_trail.get(f"/entries/{entries[7]['record_id']}")
    assert one.json() == entries[7]
    head = served_trail.get("/head").json()
    assert head == {name: entries[-1][name] for name in ("seq", "entry_hash", "anchored_at")}


def test_the_newest_come_first_and_a_page_has_a_hundred(served_trail: ServedTrail) -> None:
    page = served_trail.get("/entries").json()
    assert [entry["seq"] for entry in page["entries"]] == list(range(143, 43, -1))
    assert page["next_cursor"]


def test_a_long_page_is_made_in_pieces_and_has_the_same_form(
    served_trail: ServedTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {limit: served_trail.get(f"/entries?limit={limit}") for limit in (100, 144, 1_000)}
    monkeypatch.setattr(routes, "ENCODED_AT_ONCE", 7)
    for limit, page in whole.items():
        again = served_trail.get(f"/entries?limit={limit}")
        assert again.body == page.body


def test_times_include_their_start_and_exclude_their_end(served_trail: ServedTrail) -> None:
    entries = served_trail.find(order="asc", limit=1000)
    times = sorted({entry["anchored_at"] for entry in entries})
    assert len(times) > 3
    for since, until in itertools.combinations([None, *times, None], 2):
        query = {
            name: time for name, time in (("since", since), ("until", until)) if time is not None
        }
        expected = [
            entry["seq"]
            for entry in entries
            if (since is None or entry["anchored_at"] >= since)
            and (until is None or entry["anchored_at"] < until)
        ]
        for order in ("asc", "desc"):
            found = [entry["seq"] for entry in served_trail.find(**query, order=order, limit=50)]
            assert found == (expected if order == "asc" else expected[::-1]), query
    middle = times[2]
    for spelling in (middle.replace("Z", "+00:00"), middle.replace("Z", ""), middle.lower()):
        assert served_trail.find(since=spelling) == served_trail.find(since=middle)
    assert served_trail.find(since=times[-1], until=times[0]) == []
    some = served_trail.find(since=middle, actor="ada", outcome="success", order="asc")
    assert [entry["payload"]["n"] for entry in some] == [
        event["n"]
        for event, entry in zip(served_trail.events, entries, strict=True)
        if entry["anchored_at"] >= middle
        and (event["actor"], event["outcome"]) == ("ada", "success")
    ]


@pytest.mark.parametrize("query", [
    {"limit": 0}, {"limit": 1001}, {"limit": -1}, {"limit": "x"}, {"limit": "1.5"}, {"limit": ""},
    {"limit": 10**30}, {"order": "up"}, {"order": ""}, {"cursor": ""}, {"cursor": "x"},
    {"cursor": "MQ"}, {"cursor": "MQ==" * 300}, {"cursor": "Mv____________"}, {"cursor": "é"},
    {"cursor": "MYAAAAAAAAAA"}, {"since": ""}, {"since": "yesterday"}, {"since": "2026-13-01"},
    {"until": "1700000000"}, {"until": "9999-12-31T23:59:59-14:00"}, {"since": "2026-01-01T25:00Z"},
    {"since": "\x00"}, {"actor": "x" * 1025}, {"subject": "x" * 1025}, {"event_type": "x" * 1025},
])  # fmt: skip
def test_a_query_that_can_t_be_answered_is_refused(
    served_trail: ServedTrail, query: dict[str, Any]
) -> None:
    answer = served_trail.get("/entries", **query)
    assert (answer.status, answer.json()["type"].rpartition("/")[2]) == (400, "invalid-request")
    assert next(iter(query)) in answer.json()["detail"]


@pytest.mark.parametrize("value", ['"', '","event_type":"user.login', "\\", "%", "\ud7ff"])
def test_no_value_breaks_out_of_its_filter(served_trail: ServedTrail, value: str) -> None:
    for name in FIELDS:
        assert served_trail.find(**{name: value}) == []


@pytest.mark.parametrize("value", ["\x00", "\x7f", "a\nb", "\u0085"])
def test_a_filter_that_no_entry_can_match_is_refused(served_trail: ServedTrail, value: str) -> None:
    for name in FIELDS:
        answer = served_trail.get("/entries", **{name: value})
        assert answer.status == 400
        assert name in answer.json()["detail"]


def test_a_cursor_beyond_the_trail_is_its_end(served_trail: ServedTrail) -> None:
    far = "MX__________"
    assert served_trail.get("/entries", cursor=far, order="asc").json()["entries"] == []
    assert len(served_trail.get("/entries", cursor=far, order="desc").json()["entries"]) == 100


def test_a_viewer_sees_no_sealed_payload_and_no_name(served_trail: ServedTrail) -> None:
    viewer = served_trail.server.create_key(served_trail.org, "viewer")
    seals = served_trail.get("").json()["privacy"] == "sealed"
    answer = served_trail.get("/entries", key=viewer, order="asc", limit=1000)
    for event, entry in zip(served_trail.events, answer.json()["entries"], strict=True):
        if not seals:
            assert (entry["payload"], entry["actor"]) == (event, event["actor"])
            continue
        assert (entry["payload"], entry["payload_base64"], entry["payload_format"]) == (
            None,
            None,
            "sealed",
        )
        assert entry["erased"] is False
        for name in ("actor", "subject"):
            assert (entry[name] or "ref:").startswith("ref:"), entry
    if seals:
        for name in ('"ada"', "Zoë", '"bob"', "漢字", '"n":'):
            assert name not in answer.body.decode()
    record = answer.json()["entries"][0]["record_id"]
    assert served_trail.get(f"/entries/{record}/payload", key=viewer).status == 403


def test_an_erased_person_can_not_be_read_and_the_trail_is_intact(shared_server: Server) -> None:
    org, key = shared_server.create_org()
    trail = ServedTrail(shared_server, org, key, [])
    name = "Ünal/ 100%?#&"
    events = [
        {"subject": name, "actor": "ada", "secret": "about them"},
        {"subject": "bob", "actor": name, "secret": "about bob"},
        {"subject": name, "actor": name},
        {"actor": name, "secret": "about nobody"},
    ]
    made = shared_server.request("POST", f"/v1/orgs/{org}/entries", events, key=key).json()
    path, body = f"/v1/orgs/{org}/erasures", {"subject": name}
    erased = shared_server.request("POST", path, body, key=key)
    assert erased.status == 200, erased.body
    assert (erased.json()["subject"], erased.json()["erased"]) == (name, True)
    assert shared_server.request("POST", path, body, key=key).status == 404

    entries = trail.find(order="asc")
    assert [entry["erased"] for entry in entries] == [True, False, True, False, False]
    assert [entry["payload"] for entry in entries[:4]] == [None, events[1], None, events[3]]
    assert entries[-1]["event_type"] == "quire.subject_erased"
    assert entries[-1]["record_id"] == erased.json()["record_id"]
    assert name not in json.dumps([{**entry, "payload": None} for entry in entries])
    assert trail.find(subject=name) == trail.find(actor=name) == []
    assert [entry["seq"] for entry in trail.find(subject="bob")] == [1]
    gone = trail.get(f"/entries/{made['entries'][0]['record_id']}/payload")
    assert (gone.status, "erased" in gone.json()["detail"]) == (404, True)
    verdict = shared_server.request("POST", f"/v1/orgs/{org}/verifications?wait=30", key=key)
    assert verdict.json()["result"]["valid"] is True

    # The name may be used again: it gets a new key, which opens no earlier entry.
    shared_server.request("POST", f"/v1/orgs/{org}/entries", events[0], key=key)
    assert [entry["seq"] for entry in trail.find(subject=name)] == [5]
    assert [entry["erased"] for entry in trail.find(order="asc")][:3] == [True, False, True]


def test_a_plain_org_has_no_key_to_erase(shared_server: Server) -> None:
    org, key = shared_server.create_org("plain")
    shared_server.request("POST", f"/v1/orgs/{org}/entries", {"subject": "bob"}, key=key)
    answer = shared_server.request("DELETE", f"/v1/orgs/{org}/subjects/bob", key=key)
    assert (answer.status, answer.json()["type"].rpartition("/")[2]) == (409, "conflict")
