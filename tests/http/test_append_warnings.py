"""Warnings in the answer to an append: fields that look like a recognised one misspelt."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest

from ledger.client import LedgerClient
from tests.support.posting import MSGPACK, NDJSON, append, head_seq
from tests.support.serving import Server

GOOD = {"event_type": "user.login", "actor": "ada", "amount": 1}
BAD = {"event_type": "user.login", "Actor": "ada"}
SAID = '"Actor" is no recognised field and is kept in the payload only; did you mean "actor"?'


@pytest.fixture(params=["sealed", "plain"])
def server(request: pytest.FixtureRequest, shared_server: Server) -> Server:
    shared_server.org, shared_server.admin_key = shared_server.create_org(request.param)
    return shared_server


@pytest.fixture
def ledger(server: Server) -> Iterator[LedgerClient]:
    with LedgerClient(server.url, server.admin_key, org=server.org) as client:
        yield client


def test_one_event_is_appended_with_a_warning(server: Server) -> None:
    answer = append(server, BAD)
    assert (answer.status, answer.json()["warnings"]) == (201, [SAID])
    assert head_seq(server) == answer.json()["seq"]
    assert "warnings" not in append(server, GOOD).json()
    waited = append(server, BAD | {"outcom": "success"}).json()["warnings"]
    assert len(waited) == 2


def test_a_batch_names_the_index_of_each_in_every_form(server: Server) -> None:
    events = [GOOD, BAD, GOOD]
    lines = "\n\n".join(map(json.dumps, events))
    for body, form in (
        (events, "application/json"),
        (lines.encode(), NDJSON),
        (msgspec.msgpack.encode(events), MSGPACK),
    ):
        answer = append(server, body, form).json()
        assert answer["warnings"] == [f"event 1: {SAID}"]
        assert [entry.get("warnings") for entry in answer["entries"]] == [None, [SAID], None]
    minimal = append(server, events, prefer="return=minimal").json()
    assert minimal["warnings"] == [f"event 1: {SAID}"]
    assert "warnings" not in append(server, [GOOD, GOOD]).json()


def test_few_warnings_are_named_and_the_others_counted(server: Server) -> None:
    answer = append(server, [BAD] * 30).json()
    assert len(answer["warnings"]) == 11
    assert answer["warnings"][9] == f"event 9: {SAID}"
    assert answer["warnings"][10] == "20 more fields look misspelt"
    assert sum("warnings" in entry for entry in answer["entries"]) == 10


def test_a_repeated_request_is_answered_with_the_same_warnings(server: Server) -> None:
    first = append(server, BAD, idempotency_key="twice")
    again = append(server, BAD, idempotency_key="twice")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()


def test_the_client_has_them_on_each_receipt(ledger: LedgerClient) -> None:
    assert ledger.append(BAD).warnings == (SAID,)
    assert ledger.append(GOOD).warnings == ()
    receipts = ledger.append_many([GOOD, BAD])
    assert [receipt.warnings for receipt in receipts] == [(), (SAID,)]
    [summary] = ledger.append_many([GOOD, BAD], minimal=True)
    assert summary.warnings == (f"event 1: {SAID}",)
