"""The watchdog: every state of a connection ends that makes no progress, and nothing else ends."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from server.http.protocol.watching.limits import ConnectionLimits
from tests.support.clusters import Cluster
from tests.support.raw_http import Line, head, parse
from tests.support.serving import Server, start_server
from tests.support.waiting import PATIENCE_S, until

SHORT_S = 0.4
BUNDLE = "/static/swagger-ui/swagger-ui-bundle.js"


@pytest.fixture(scope="module")
def impatient(postgres_cluster: Cluster, session_dir: Path) -> Iterator[Server]:
    """A server that waits for less than a second for anything."""
    database = postgres_cluster.migrated()
    server = start_server(database, session_dir / uuid4().hex[:8], patience_seconds=SHORT_S)
    server.org, server.admin_key = server.create_org("plain")
    short = ConnectionLimits(patience_s=SHORT_S, idle_s=SHORT_S, linger_s=SHORT_S)
    server.connections.limits = short
    yield server
    server.stop()
    postgres_cluster.drop(database)


@pytest.fixture(autouse=True)
def nothing_is_left(impatient: Server) -> Iterator[None]:
    yield
    assert impatient.request("GET", "/readyz").status == 200
    until(lambda: len(impatient.connections) == 0, "a connection is left")


def post(server: Server, **headers: str) -> bytes:
    return head("POST", f"/v1/orgs/{server.org}/entries", server.admin_key, **headers)


def ended(line: Line) -> bool:
    """Wait until the server has ended the connection; what it sends until then is dropped."""
    line.socket.settimeout(PATIENCE_S)
    line.read()
    return True


@contextlib.contextmanager
def dripping(line: Line, drop: bytes) -> Iterator[None]:
    """Send a drop again and again, well below the least rate, until the connection ends."""
    stop = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(SHORT_S / 10):
                line.send(drop)

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("beginning", [
    b"", b"\r\n", b"GET", b"GET /livez HTTP/1.1\r\nhost: x\r\nx-slow: ", b"\x16\x03\x01",
    b"GET /livez HTTP/1.0\r\nx-slow: ", b"POST /v1/orgs HTTP/1.1\r\nupgrade: h2c\r\nx: ",
])  # fmt: skip
def test_a_head_that_drips_ends(impatient: Server, beginning: bytes) -> None:
    with Line(impatient) as line:
        line.send(beginning)
        with dripping(line, b"\r\n" if beginning == b"\r\n" else b"a"):
            assert ended(line)


def test_a_second_head_that_drips_ends(impatient: Server) -> None:
    with Line(impatient) as line:
        line.send(head("GET", "/livez"))
        assert line.next_answer().status == 200
        line.send(b"GET /livez HTTP/1.1\r\nx: ")
        with dripping(line, b"a"):
            assert ended(line)


def test_an_idle_connection_ends(impatient: Server) -> None:
    with Line(impatient) as line:
        line.send(head("GET", "/livez"))
        assert line.next_answer().status == 200
        assert ended(line)


@pytest.mark.parametrize(("headers", "beginning", "drop"), [
    ({"content_length": "100000"}, b"", b" "),
    ({"content_length": "100000", "expect": "100-continue"}, b"", b" "),
    ({"transfer_encoding": "chunked"}, b"", b"1\r\n \r\n"),
    ({"transfer_encoding": "chunked"}, b"fffff\r\n", b" "),
    ({"transfer_encoding": "chunked"}, b"", b"1;a=b\r\n \r\n"),
    ({"transfer_encoding": "chunked"}, b"2\r\n{}\r\n0\r\nx-trailer: ", b"a"),
    ({"transfer_encoding": "chunked"}, b"2\r\n{}\r\n0\r\n", b"x: a\r\n"),
    ({"content_length": "100000", "upgrade": "h2c", "connection": "upgrade"}, b"", b" "),
])  # fmt: skip
def test_a_body_that_drips_is_answered_408(
    impatient: Server, headers: dict[str, str], beginning: bytes, drop: bytes
) -> None:
    with Line(impatient) as line:
        line.send(post(impatient, **headers) + beginning)
        with dripping(line, drop):
            received = line.read()
    if received:  # the reset may overtake the answer
        received = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert parse(received).status == 408


def test_a_body_of_http_1_0_that_drips_ends(impatient: Server) -> None:
    with Line(impatient) as line:
        line.send(post(impatient, content_length="1000").replace(b"HTTP/1.1", b"HTTP/1.0"))
        with dripping(line, b" "):
            assert ended(line)


@pytest.mark.parametrize(("path", "key", "status"), [
    ("/v1/orgs/x/entries", None, 401), ("/nowhere", None, 404), ("/livez", None, 405),
])  # fmt: skip
def test_the_unread_rest_of_a_body_has_an_end(
    impatient: Server, path: str, key: str | None, status: int
) -> None:
    with Line(impatient) as line:
        line.send(head("POST", path, key, content_length="1000000"))
        with dripping(line, b" "):
            received = line.read()
    answer = parse(received)
    assert (answer.status, answer.headers["connection"]) == (status, "close")


def test_an_early_answer_is_read_by_a_client_that_sends_all_of_its_body(impatient: Server) -> None:
    with Line(impatient) as line:
        line.send(head("POST", "/v1/orgs/x/entries", content_length="4000000"))
        line.send(bytes(4_000_000))
        assert line.answer().status == 401


def test_a_body_at_the_least_rate_is_taken(impatient: Server) -> None:
    """Its time is many times the patience, but it never falls behind."""
    impatient.connections.limits = replace(impatient.connections.limits, least_rate=100)
    try:
        with Line(impatient) as line:
            line.send(post(impatient, content_length="4000", connection="close") + b"{")
            for _ in range(39):
                threading.Event().wait(SHORT_S / 10)
                line.send(b" " * 100)
            line.send(b" " * 98 + b"}")
            assert line.answer().status == 201
    finally:
        limits = impatient.connections.limits
        impatient.connections.limits = replace(limits, least_rate=ConnectionLimits.least_rate)


@pytest.mark.parametrize("requests", [1, 6, 200])
def test_an_answer_that_nobody_reads_ends(impatient: Server, requests: int) -> None:
    with Line(impatient) as line:
        line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        line.send(head("GET", BUNDLE) * requests * (20 if requests == 1 else 1))
        until(lambda: len(impatient.connections) == 0, "the connection is open")


def test_an_answer_that_is_read_by_drops_ends(impatient: Server) -> None:
    with Line(impatient) as line:
        line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        line.send(head("GET", BUNDLE) * 20)
        with contextlib.suppress(ConnectionError):
            while line.socket.recv(64):
                threading.Event().wait(SHORT_S / 20)
        until(lambda: len(impatient.connections) == 0, "the connection is open")


def test_a_client_that_only_sends_its_requests_and_closes_its_side_is_not_kept(
    impatient: Server,
) -> None:
    with Line(impatient) as line:
        line.send(head("GET", BUNDLE) * 20)
        line.socket.shutdown(socket.SHUT_WR)
        until(lambda: len(impatient.connections) == 0, "the connection is open")


def test_a_request_that_the_server_works_on_is_not_ended(impatient: Server) -> None:
    path = f"/v1/orgs/{impatient.org}/entries?wait=checkpoint"  # nothing is signed here
    body = b'{"event_type":"slow"}'
    with Line(impatient) as line:
        line.send(
            head(
                "POST",
                path,
                impatient.admin_key,
                content_length=str(len(body)),
                connection="close",
            )
            + body
        )
        line.socket.settimeout(PATIENCE_S)
        assert line.answer().status == 201


def test_the_causes_are_counted(impatient: Server) -> None:
    with Line(impatient) as line:
        line.send(b"GET")
        assert ended(line)
    text = impatient.metrics()
    counts = [line for line in text.splitlines() if 'ended_total{cause="head"}' in line]
    assert counts
    assert float(counts[0].rpartition(" ")[2]) >= 1
