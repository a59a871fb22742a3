"""Requests that are sent without reading the answers, and bodies in the smallest pieces."""

from __future__ import annotations

import gc
import socket
from dataclasses import replace

import psutil
import pytest

from tests.support.raw_http import Line, head
from tests.support.serving import Server
from tests.support.waiting import until

MIB = 1 << 20
BUNDLE = "/static/swagger-ui/swagger-ui-bundle.js"
TINY = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"


def waiting(server: Server) -> int:
    """The most requests that wait behind another one on one connection."""
    assert server._server is not None
    found = [len(one.pipeline) for one in list(server._server.server_state.connections)]  # type: ignore[union-attr]
    return max(found, default=0)


def test_many_small_requests_at_once_wait_as_bytes(shared_server: Server) -> None:
    with Line(shared_server) as line:
        line.socket.setblocking(False)
        sent = 0
        while sent < 4 * MIB:
            try:
                sent += line.socket.send(TINY * 1_000)
            except BlockingIOError:
                break
        until(lambda: waiting(shared_server) > 0, "no request waits")
        assert waiting(shared_server) < 300


def test_every_one_of_many_small_requests_is_answered(shared_server: Server) -> None:
    with Line(shared_server, timeout=60) as line:
        line.send(TINY * 3_000 + head("GET", "/livez", connection="close"))
        assert line.read().count(b"HTTP/1.1 200") == 3_001


def test_a_body_behind_many_requests_is_read_whole(shared_server: Server) -> None:
    org, key = shared_server.create_org("plain")
    body = b'{"a":"%s"}' % (b"b" * 300_000)
    path = f"/v1/orgs/{org}/entries"
    with Line(shared_server, timeout=60) as line:
        post = head("POST", path, key, content_length=str(len(body)))
        last = head("POST", path, key, content_length="2", connection="close")
        line.send(TINY * 500 + post + body + TINY * 500 + last + b"{}")
        received = line.read()
    assert received.count(b"HTTP/1.1 200") == 1_000
    assert received.count(b"HTTP/1.1 201") == 2


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_body_of_thousands_of_tiny_chunks_is_read(shared_server: Server, size: int) -> None:
    org, key = shared_server.create_org("plain")
    body = b'{"a":"%s"}' % (b"b" * 20_000)
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(piece), piece)
        for piece in (body[at : at + size] for at in range(0, len(body), size))
    )
    with Line(shared_server, timeout=60) as line:
        line.send(
            head(
                "POST",
                f"/v1/orgs/{org}/entries",
                key,
                transfer_encoding="chunked",
                connection="close",
            )
            + chunks
            + b"0\r\n\r\n"
        )
        assert line.answer().status == 201


def test_answers_that_nobody_reads_take_no_memory_each(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hundred connections ask six times for a file of 1.7 MB, and read nothing."""
    limits = replace(shared_server.connections.limits, patience_s=1.0)
    lines: list[Line] = []
    gc.collect()
    before = psutil.Process().memory_info().rss
    try:
        for _ in range(300):
            line = Line(shared_server)
            line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            line.send(head("GET", BUNDLE) * 6)
            lines.append(line)
        until(lambda: len(shared_server.connections) >= 300, "they are not connected")
        assert shared_server.request("GET", "/livez").status == 200
        assert psutil.Process().memory_info().rss - before < 100 * MIB
        monkeypatch.setattr(shared_server.connections, "limits", limits)
        until(lambda: len(shared_server.connections) < 10, "they are still there")
    finally:
        for line in lines:
            line.socket.close()
