"""The limits of one append, and the refusals beyond them."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.posting import JSON, MSGPACK, NDJSON, append, head_seq, problem_of
from tests.support.raw_http import Line, head
from tests.support.serving import Server

MIB = 1 << 20
MAX_EVENTS, MAX_BODY, MAX_PAYLOAD = 10_000, 16 * MIB, MIB


@pytest.fixture(scope="module")
def server(shared_server: Server) -> Server:
    shared_server.org, shared_server.admin_key = shared_server.create_org("plain")
    return shared_server


def many(count: int, content_type: str) -> bytes:
    return {
        JSON: b"[" + b",".join([b"{}"] * count) + b"]",
        NDJSON: b"{}\n" * count,
        MSGPACK: msgspec.msgpack.encode([{}] * count),
    }[content_type]


@pytest.mark.parametrize("content_type", [JSON, NDJSON, MSGPACK])
def test_an_append_has_at_most_ten_thousand_events(server: Server, content_type: str) -> None:
    before = head_seq(server)
    full = append(server, many(MAX_EVENTS, content_type), content_type, prefer="return=minimal")
    assert (full.status, full.json()["count"]) == (201, MAX_EVENTS)
    over = append(server, many(MAX_EVENTS + 1, content_type), content_type)
    assert (over.status, problem_of(over)) == (413, "payload-too-large")
    assert head_seq(server) == before + MAX_EVENTS


def test_a_full_batch_is_answered_in_full(server: Server) -> None:
    answer = append(server, many(MAX_EVENTS, JSON)).json()
    seqs = [receipt["seq"] for receipt in answer["entries"]]
    assert seqs == list(range(seqs[0], seqs[0] + MAX_EVENTS))
    assert answer["head"]["seq"] == seqs[-1]


def test_a_payload_has_at_most_a_mebibyte(server: Server) -> None:
    largest = b'{"x":"' + b"y" * (MAX_PAYLOAD - 8) + b'"}'
    assert len(largest) == MAX_PAYLOAD
    assert append(server, largest).status == 201
    over = append(server, b"[{}," + largest[:-2] + b'y"}]')
    assert (over.status, problem_of(over), over.json()["index"]) == (413, "payload-too-large", 1)


def test_a_body_has_at_most_sixteen_mebibytes(server: Server) -> None:
    event = b'{"x":"' + b"y" * (MAX_PAYLOAD - 10) + b'"},'
    body = b"[" + event * 15 + event[:-1] + b"]"
    assert append(server, body + b" " * (MAX_BODY - len(body))).status == 201
    before = head_seq(server)
    over = append(server, body + b" " * (MAX_BODY - len(body) + 1))
    assert (over.status, problem_of(over)) == (413, "payload-too-large")
    assert head_seq(server) == before


def test_an_announced_body_over_the_limit_is_not_waited_for(server: Server) -> None:
    path = f"/v1/orgs/{server.org}/entries"
    with Line(server) as line:
        length = str(MAX_BODY + 1)
        line.send(head("POST", path, server.admin_key, content_length=length, connection="close"))
        answer = line.answer()
    assert (answer.status, problem_of(answer)) == (413, "payload-too-large")


def test_a_chunked_body_is_accepted_and_bounded_too(server: Server) -> None:
    path = f"/v1/orgs/{server.org}/entries"
    chunked = head("POST", path, server.admin_key, transfer_encoding="chunked", connection="close")
    with Line(server) as line:
        line.send(chunked + b'4\r\n{"a"\r\n3\r\n:1}\r\n0\r\n\r\n')
        assert line.answer().status == 201
    before = head_seq(server)
    with Line(server) as line:
        line.send(chunked)
        piece = b"100000\r\n" + b" " * MIB + b"\r\n"
        try:
            for _ in range(17):
                line.send(piece)
            line.send(b"0\r\n\r\n")
        except ConnectionError:
            pass  # the server may close as soon as the body exceeds the limit
        else:
            answer = line.answer()
            assert (answer.status, problem_of(answer)) == (413, "payload-too-large")
    assert head_seq(server) == before
