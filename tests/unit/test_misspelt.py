"""Fields that look like a recognised one misspelt."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import misspelt
from ledger.event import FIELD_NAMES, misspelt_fields, parse_json, parse_msgpack, parse_ndjson
from ledger.misspelt import KnownNames, Misspelling

LIKE = [
    ("Actor", "actor"),
    ("ACTOR", "actor"),
    ("event-type", "event_type"),
    ("eventType", "event_type"),
    ("Event Type", "event_type"),
    ("data.classification", "data_classification"),
    ("_action_", "action"),
    ("outcom", "outcome"),
    ("outcomes", "outcome"),
    ("subjekt", "subject"),
    ("timestmap", "timestamp"),
    ("uniqueKye", "unique_key"),
    ("legal_bassis", "legal_basis"),
]
UNLIKE = ["actor_id", "user", "outcom_s_s", "type", "key", "", "Zoë", "a" * 10_000, "tcaor"]


def judged(name: str) -> list[Misspelling]:
    return [found for _, found in KnownNames(FIELD_NAMES).misspelt([(0, name)])]


@pytest.mark.parametrize(("sent", "known"), LIKE)
def test_case_separators_and_one_slip_are_seen(sent: str, known: str) -> None:
    [found] = judged(sent)
    assert (found.sent, found.known) == (sent, known)
    assert str(found).startswith(f'"{sent}" is no recognised field')
    assert str(found).endswith(f'did you mean "{known}"?')


@pytest.mark.parametrize("sent", [*FIELD_NAMES, *UNLIKE])
def test_other_names_are_left_alone(sent: str) -> None:
    assert judged(sent) == []


@given(st.sampled_from(FIELD_NAMES), st.data())
def test_every_slip_is_seen(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 2))
    char = data.draw(st.sampled_from("xq7"))
    slip = data.draw(
        st.sampled_from(
            [
                name[:at] + name[at + 1 :],
                name[:at] + char + name[at:],
                name[:at] + char + name[at + 1 :],
                name[:at] + name[at + 1] + name[at] + name[at + 2 :],
            ]
        )
    )
    if slip not in FIELD_NAMES:
        assert len(judged(slip)) == 1


def test_an_answer_is_remembered_and_the_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(misspelt, "NAMES_MAX", 50)
    names = KnownNames(FIELD_NAMES)
    for number in range(500):
        names.misspelt([(0, f"field-{number}"), (0, f"actor{number}"), (0, "Actor")])
        assert len(names.unremarkable) + len(names._misspelt) <= 50
    assert names.unremarkable.issuperset(FIELD_NAMES)
    names.misspelt([(0, "amount")])
    assert "amount" in names.unremarkable
    monkeypatch.setattr(misspelt, "_one_slip", None)  # nothing is compared again
    assert names.misspelt([(0, "amount")]) == []
    assert len(names.misspelt([(0, "Actor")])) == 1


def test_no_request_costs_more_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    names = KnownNames(FIELD_NAMES)
    compared = []

    def compare(one: str, _other: str) -> bool:
        compared.append(one)
        return False

    monkeypatch.setattr(misspelt, "_one_slip", compare)
    many = [(0, f"actor {number}") for number in range(misspelt.REQUEST_NAMES_MAX + 1)]
    assert names.misspelt([*many, (1, "Actor")]) == []
    assert len(set(compared)) == misspelt.JUDGED_MAX
    event = [f"name {number}" for number in range(misspelt.EVENT_NAMES_MAX + 1)]
    assert names.unfamiliar([*FIELD_NAMES, *event]) == tuple(event[:-1])


def test_what_no_terminal_should_get_is_not_repeated() -> None:
    [found] = judged("acto\u202er")
    assert "\u202e" not in str(found)
    [lone] = judged("acto\ud800r")
    str(lone).encode()


def test_each_form_of_a_body_tells_them() -> None:
    event = {"event_type": "a", "Actor": "ada", "amount": 1}
    nested = event | {"deep": {"Subject": [1, {"Outcome": 2}]}}
    bounds = {"max_events": 10, "max_payload": 1_000}
    for one in (event, nested):
        body = json.dumps(one, indent=3).encode()  # not as it would be encoded again
        single, _ = parse_json(body, **bounds)
        batch, _ = parse_json(b"[" + body + b"]", **bounds)
        lines = parse_ndjson(json.dumps(one).encode(), **bounds)
        packed = parse_msgpack(msgspec.msgpack.encode([one]), **bounds)
        for events in (single, batch, lines, packed):
            assert [(at, found.sent) for at, found in misspelt_fields(events)] == [(0, "Actor")]
