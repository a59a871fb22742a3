"""HTTP/1.0 clients get no chunks, one Connection header, and an end that differs from an abort."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from tests.support.broken_bundles import DAMAGE
from tests.support.offices import office
from tests.support.raw_http import Line, parse
from tests.support.serving import Server
from tests.support.tampering import tamper


@pytest.fixture(scope="module")
def server(shared_server: Server) -> Server:
    """The shared server with a signed trail of two entries."""
    here = office(shared_server, count=2)
    shared_server.org, shared_server.admin_key = here.org, here.key
    return shared_server


def request(key: str, method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    length = f"content-length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.0\r\nx-api-key: {key}\r\n{length}{headers}\r\n".encode() + body


def connection_of(received: bytes) -> list[str]:
    """The values of the Connection headers of an answer's head."""
    lines = received.partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
    return [line.partition(": ")[2] for line in lines if line.startswith("connection:")]


def read(server: Server, sent: bytes) -> bytes:
    with Line(server, timeout=60) as line:
        line.send(sent)
        return line.read()


@pytest.mark.parametrize(
    "connection_header", ["", "connection: keep-alive\r\n", "connection: close\r\n"]
)
def test_a_bundle_ends_with_the_connection(server: Server, connection_header: str) -> None:
    body = json.dumps({"from_seq": 0}).encode()
    path = f"/v1/orgs/{server.org}/bundles"
    received = read(server, request(server.admin_key, "POST", path, body, connection_header))
    head = received.partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 200")
    assert b"transfer-encoding" not in head
    assert b"content-length" not in head
    assert connection_of(received) == ["close"]
    with zipfile.ZipFile(io.BytesIO(parse(received).body)) as bundle:
        assert bundle.testzip() is None


@pytest.mark.parametrize(
    "connection_header", ["", "connection: keep-alive\r\n", "connection: close\r\n"]
)
def test_events_end_with_the_connection(server: Server, connection_header: str) -> None:
    path = f"/v1/orgs/{server.org}/verifications"
    job = server.request("POST", f"{path}?wait=30", {}, key=server.admin_key).json()["id"]
    received = read(
        server, request(server.admin_key, "GET", f"{path}/{job}/events", headers=connection_header)
    )
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert connection_of(received) == ["close"]
    assert body.startswith(b"event: done\r\ndata: {")
    assert body.endswith(b"}\r\n\r\n")


@pytest.mark.parametrize("connection_header", ["close", "keep-alive", None])
def test_http_1_1_gets_one_connection_header(server: Server, connection_header: str | None) -> None:
    path = f"/v1/orgs/{server.org}/verifications"
    job = server.request("POST", f"{path}?wait=30", {}, key=server.admin_key).json()["id"]
    line_of = "" if connection_header is None else f"connection: {connection_header}\r\n"
    with Line(server) as line:
        line.send(
            f"GET {path}/{job}/events HTTP/1.1\r\nhost: x\r\nx-api-key: {server.admin_key}\r\n"
            f"{line_of}\r\n".encode()
        )
        received = b""
        while not received.endswith(b"\r\n0\r\n\r\n"):
            received += line._some()
    assert connection_of(received) == (["close"] if connection_header == "close" else [])


PATHS = ["/livez", "/readyz", "/metrics", "/docs", "/verify", "/openapi.json", "/v1/whoami", "/nothing",
         "/v1/orgs/{}/entries", "/v1/orgs/{}/log/checkpoint", "/v1/orgs/{}/log/tile/entries/000.p/2"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_with_a_length_keeps_the_connection_where_asked(
    server: Server, path: str
) -> None:
    path = path.format(server.org)
    closed = read(server, request(server.admin_key, "GET", path))
    assert connection_of(closed) == ["close"]
    kept = request(server.admin_key, "GET", path, headers="Connection: Keep-Alive\r\n")
    received = read(server, kept + kept + request(server.admin_key, "GET", path))
    answers = received.split(b"HTTP/1.1 ")[1:]
    assert [connection_of(answer) for answer in answers] == [
        ["keep-alive"], ["keep-alive"], ["close"],
    ]  # fmt: skip
    assert all(b"transfer-encoding" not in answer.lower() for answer in answers)


def test_an_append_and_its_refusal_have_a_length(server: Server) -> None:
    path = f"/v1/orgs/{server.org}/entries"
    for body, status in ((b"{}", 201), (b"[]", 400)):
        answer = parse(read(server, request(server.admin_key, "POST", path, body)))
        assert (answer.status, int(answer.headers["content-length"])) == (status, len(answer.body))


def test_http_1_0_gets_no_interim_answer(server: Server) -> None:
    path = f"/v1/orgs/{server.org}/entries"
    sent = request(server.admin_key, "POST", path, b"{}", "expect: 100-continue\r\n")
    assert read(server, sent).startswith(b"HTTP/1.1 201")


def test_an_answer_that_broke_off_ends_in_a_reset(shared_server: Server) -> None:
    here = office(shared_server, count=2_000)
    tamper(shared_server.database, here.org, DAMAGE["payload"])
    body = json.dumps({"from_seq": 0}).encode()
    with Line(shared_server, timeout=60) as line:
        line.send(request(here.key, "POST", f"/v1/orgs/{here.org}/bundles", body))
        with pytest.raises(ConnectionResetError):
            drain(line)


def drain(line: Line) -> None:
    while line.socket.recv(1 << 20):
        pass
