"""Hostile and broken connections: the server goes on, and no batch is half written."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from server.http.protocol.connection import MAX_HEAD_BYTES
from tests.support.raw_http import Line, head, parse
from tests.support.serving import Server

SHORT_S = 0.3


@pytest.fixture(autouse=True)
def server(shared_server: Server) -> Iterator[Server]:
    """The shared server with a plain org of its own; checks after the test that it still serves."""
    shared_server.org, shared_server.admin_key = shared_server.create_org("plain")
    errors = shared_server.internal_errors()
    yield shared_server
    assert shared_server.request("GET", "/readyz").status == 200
    assert shared_server.internal_errors() == errors


def impatient(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let slow connections end after a moment."""
    limits = replace(server.connections.limits, patience_s=SHORT_S)
    monkeypatch.setattr(server.connections, "limits", limits)


def entries_path(server: Server) -> str:
    return f"/v1/orgs/{server.org}/entries"


def count(server: Server) -> int:
    answer = server.request("GET", f"/v1/orgs/{server.org}/head", key=server.admin_key)
    return int(answer.json()["seq"]) + 1


def post(server: Server, length: int, **headers: str) -> bytes:
    return head(
        "POST", entries_path(server), server.admin_key, content_length=str(length), **headers
    )


def test_a_missing_body_times_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(server, monkeypatch)
    with Line(server) as line:
        line.send(post(server, 1_000, connection="close") + b'{"a":1')
        answer = line.answer()
    assert (answer.status, answer.json()["type"].rpartition("/")[2]) == (408, "request-timeout")
    assert count(server) == 0


def test_a_missing_head_times_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(server, monkeypatch)
    started = time.monotonic()
    with Line(server) as silent, Line(server) as slow, Line(server) as kept:
        slow.send(b"GET /livez HTTP/1.1\r\nhost: x\r\n")
        kept.send(head("GET", "/livez"))
        assert kept.next_answer().status == 200
        kept.send(b"GET /livez HT")
        assert [line.read() for line in (silent, slow, kept)] == [b"", b"", b""]
    assert time.monotonic() - started < 10


def test_a_connection_between_requests_is_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(server, monkeypatch)
    with Line(server) as line:
        for _ in range(2):
            line.send(head("GET", "/livez"))
            assert line.next_answer().status == 200
            time.sleep(1.3)


@pytest.mark.parametrize("beginning", [
    b"GET /livez HTTP/1.1\r\nhost: x\r\nx-big: ",
    b"GET /livez HTTP/1.1\r\nhost: x\r\n" + b"x-many: 1\r\n" * 1_000 + b"x-big: ",
    b"GET /",
])  # fmt: skip
def test_an_endless_head_is_refused(server: Server, beginning: bytes) -> None:
    with Line(server) as line:
        line.send(beginning)
        received = flood(line)
    if received:  # the reset may overtake the answer
        assert parse(received).status == 431


def test_endless_trailers_are_refused(server: Server) -> None:
    with Line(server) as line:
        line.send(
            head("POST", entries_path(server), server.admin_key, transfer_encoding="chunked")
            + b"2\r\n{}\r\n0\r\nx-trailer: "
        )
        flood(line)
    assert count(server) == 0


def flood(line: Line) -> bytes:
    """Send letters until the server closes; returns its answer."""
    piece = b"a" * MAX_HEAD_BYTES
    for _ in range(1_000):
        try:
            line.send(piece)
        except ConnectionError:
            return line.read()
    pytest.fail("64 MB of a head were taken")


def test_a_large_head_within_the_bound_is_accepted(server: Server) -> None:
    with Line(server) as line:
        line.send(head("GET", "/livez", x_big="a" * 30_000, connection="close"))
        assert line.answer().status == 200


@pytest.mark.parametrize("garbage", [
    b"garbage\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 100, b"\r\n" * 50 + b"x\r\n",
    b"GET /livez\xff HTTP/1.1\r\nhost: x\r\n\r\n", b"GET /livez HTTP/9.9\r\n\r\n", b"GET\r\n\r\n",
    b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
    b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"GET / HTTP/1.1\r\nx: a\x00b\r\n\r\n",
    b"CONNECT quire.dev:443 HTTP/1.1\r\nhost: quire.dev\r\n\r\n",
])  # fmt: skip
def test_bytes_that_are_not_http_are_refused_as_a_problem(server: Server, garbage: bytes) -> None:
    with Line(server) as line:
        line.send(garbage)
        answer = line.answer()
    assert answer.status in {400, 404}, answer
    assert answer.headers["content-type"] == "application/problem+json"


def test_garbage_after_a_request_does_not_undo_it(server: Server) -> None:
    with Line(server) as line:
        line.send(post(server, 2) + b"{}" + post(server, 2) + b"{}" + b"\x00garbage\r\n\r\n")
        line.read()
    wait_until_settled(server)
    assert count(server) in {1, 2}


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    with Line(server) as line:
        line.send(b"".join(post(server, 7) + b'{"n":%d}' % number for number in range(9)))
        line.send(post(server, 2, connection="close") + b"{}")
        received = line.read()
    assert received.count(b"HTTP/1.1 201") == 10
    assert [received.find(b'"seq":%d,' % seq) for seq in range(10)] == sorted(
        received.find(b'"seq":%d,' % seq) for seq in range(10)
    )


def test_a_disconnect_before_the_end_of_the_body_appends_nothing(server: Server) -> None:
    body = b"[" + b",".join([b"{}"] * 1_000) + b"]"
    for sent in (0, 1, 100, len(body) - 1):
        with Line(server) as line:
            line.send(post(server, len(body)) + body[:sent])
    for sent in (1, 1_000):
        with Line(server) as line:  # half closed: the client sends no more, but still reads
            line.send(post(server, len(body)) + body[:sent])
            line.socket.shutdown(socket.SHUT_WR)
            line.read()
    wait_until_settled(server)
    assert count(server) == 0


@pytest.mark.parametrize("wait_s", [0.0, 0.002, 0.01, 0.05])
def test_a_disconnect_leaves_a_whole_batch_or_none(server: Server, wait_s: float) -> None:
    body = b"[" + b",".join([b"{}"] * 5_000) + b"]"
    with Line(server) as line:
        line.send(post(server, len(body)) + body)
        time.sleep(wait_s)
        linger = struct.pack("ii", 1, 0)  # close by reset
        line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    wait_until_settled(server)
    assert count(server) in {0, 5_000}


def test_appends_work_beside_five_hundred_idle_connections(server: Server) -> None:
    with ExitStack() as stack:
        for number in range(500):
            line = stack.enter_context(Line(server))
            if number % 2:
                line.send(b"POST /v1/orgs/x/entries HTTP/1.1\r\nhost: x\r\ncontent-")
        for _ in range(20):
            answer = server.request("POST", entries_path(server), {}, key=server.admin_key)
            assert answer.status == 201
    assert count(server) == 20


def wait_until_settled(server: Server) -> None:
    """Wait until no request is in progress and the trail has stopped growing."""
    assert server._server is not None
    deadline = time.monotonic() + 20
    while server._server.server_state.tasks:
        assert time.monotonic() < deadline, "requests hang"
        time.sleep(0.01)
    time.sleep(0.05)
