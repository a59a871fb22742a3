"""Retries: one key with one body has one answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex

import pytest

from tests.support.posting import JSON, NDJSON, append, head_seq, problem_of
from tests.support.serving import Server


@pytest.fixture(params=["sealed", "plain"], scope="module")
def server(request: pytest.FixtureRequest, shared_server: Server) -> Server:
    shared_server.org, shared_server.admin_key = shared_server.create_org(request.param)
    return shared_server


@pytest.mark.parametrize("body", [b'{"n":1}', b'[{"n":1},{"n":2}]'])
def test_the_same_request_again_is_answered_as_the_first_time(server: Server, body: bytes) -> None:
    key, before = token_hex(8), head_seq(server)
    first = append(server, body, idempotency_key=key)
    again = append(server, body, idempotency_key=key)
    assert (first.status, again.status) == (201, 201)
    assert first.body == again.body
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert head_seq(server) == before + body.count(b"n")


def test_a_later_append_does_not_change_the_answer(server: Server) -> None:
    key = token_hex(8)
    first = append(server, [{}, {}], idempotency_key=key)
    append(server, {})
    assert append(server, [{}, {}], idempotency_key=key).body == first.body


def test_the_same_key_with_another_body_is_refused(server: Server) -> None:
    key = token_hex(8)
    append(server, b'{"n":1}', idempotency_key=key)
    before = head_seq(server)
    for body, content_type in ((b'{"n":2}', JSON), (b'{"n":1} ', JSON), (b'{"n":1}', NDJSON)):
        answer = append(server, body, content_type, idempotency_key=key)
        assert (answer.status, problem_of(answer)) == (422, "idempotency-mismatch")
    assert head_seq(server) == before


def test_keys_of_two_orgs_have_nothing_to_do_with_each_other(server: Server) -> None:
    key = token_hex(8)
    append(server, b'{"n":1}', idempotency_key=key)
    org, admin = server.create_org()
    headers = {"idempotency-key": key}
    made = server.request("POST", f"/v1/orgs/{org}/entries", b'{"n":2}', key=admin, headers=headers)
    assert (made.status, made.json()["seq"]) == (201, 0)


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_of_an_invalid_length_is_refused(server: Server, key: str) -> None:
    answer = append(server, {}, idempotency_key=key)
    assert answer.status == 400
    assert "Idempotency-Key" in answer.json()["detail"]
    assert append(server, {}, idempotency_key="x" * 255 if key else "x").status == 201


def test_a_refused_request_leaves_its_key_free(server: Server) -> None:
    key = token_hex(8)
    assert append(server, b'{"actor":1}', idempotency_key=key).status == 400
    assert append(server, b'{"actor":"one"}', idempotency_key=key).status == 201


def test_concurrent_equal_requests_become_one(server: Server) -> None:
    key, before = token_hex(8), head_seq(server)
    with ThreadPoolExecutor(8) as pool:
        answers = [
            answer.result()
            for answer in [
                pool.submit(append, server, b"{}", idempotency_key=key) for _ in range(8)
            ]
        ]
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body for answer in answers}) == 1
    assert head_seq(server) == before + 1


def test_an_event_with_its_own_key_is_written_once(server: Server) -> None:
    unique = token_hex(8)
    event, other = {"unique_key": unique, "n": 1}, {"n": 2}
    first = append(server, event).json()
    before = head_seq(server)
    assert append(server, event).json() == first
    assert head_seq(server) == before
    mixed = append(server, [other, event, {"n": 3}]).json()["entries"]
    assert mixed[1] == first
    assert [mixed[0]["seq"], mixed[2]["seq"]] == [before + 1, before + 2]


def test_an_event_key_with_another_event_is_refused_and_named(server: Server) -> None:
    unique = token_hex(8)
    append(server, {"unique_key": unique, "n": 1})
    before = head_seq(server)
    answer = append(server, [{}, {"unique_key": unique, "n": 2}])
    assert (answer.status, problem_of(answer)) == (422, "idempotency-mismatch")
    assert answer.json()["index"] == 1
    assert head_seq(server) == before


def test_an_event_key_twice_in_one_batch(server: Server) -> None:
    unique, before = token_hex(8), head_seq(server)
    event = {"unique_key": unique, "n": 1}
    receipts = append(server, [event, event]).json()["entries"]
    assert receipts[0] == receipts[1]
    assert head_seq(server) == before + 1
    answer = append(server, [{"unique_key": token_hex(8), "n": n} for n in range(2)])
    assert answer.status == 201
