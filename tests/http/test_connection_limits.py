"""Limits of connections: idle ones give way, the reserve answers for health, one address has a share."""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from dataclasses import replace

import pytest

from server.http.protocol.watching.limits import ConnectionLimits
from tests.support.raw_http import Line, head
from tests.support.serving import Server
from tests.support.waiting import until


class OneAddress(ConnectionLimits):
    """Limits that make no exception for loopback, as this machine has no other clients."""

    def group_of(self, host: str | None) -> str | None:
        return host


@pytest.fixture
def limited(shared_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server for 20 connections, and 3 more for health checks."""
    until(lambda: len(shared_server.connections) == 0, "an earlier connection is left")
    limits = replace(shared_server.connections.limits, connections=20, reserve=3)
    monkeypatch.setattr(shared_server.connections, "limits", limits)
    return shared_server


def occupied(server: Server, stack: ExitStack, count: int = 20) -> list[Line]:
    """Open connections whose requests are in progress: the server waits for their bodies."""
    path = f"/v1/orgs/{server.org}/entries"
    begun = head("POST", path, server.admin_key, content_length="10") + b"{"
    lines = [stack.enter_context(Line(server)) for _ in range(count)]
    for line in lines:
        line.send(begun)
    until(lambda: len(tasks(server)) == count, "the requests did not arrive")
    return lines


def tasks(server: Server) -> set[object]:
    assert server._server is not None
    return set(server._server.server_state.tasks)


def test_idle_connections_give_way(limited: Server) -> None:
    with ExitStack() as stack:
        for number in range(200):
            line = stack.enter_context(Line(limited))
            if number % 2:
                line.send(b"GET /livez HTTP/1.1\r\nhost")
        for _ in range(5):
            assert limited.request("GET", "/v1/whoami", key=limited.admin_key).status == 200
        assert len(limited.connections) <= 20


def test_beyond_the_limit_health_is_answered_and_nothing_else(limited: Server) -> None:
    with ExitStack() as stack:
        lines = occupied(limited, stack)
        for path in ("/livez", "/readyz", "/livez?", "/readyz"):
            answer = limited.request("GET", path)
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        refused = limited.request("GET", "/v1/whoami", key=limited.admin_key)
        assert (refused.status, refused.headers["connection"]) == (503, "close")
        assert refused.json()["type"].endswith("/unavailable")
        assert refused.headers["retry-after"] == "1"
        with Line(limited) as old:
            old.send(b"GET /livez HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
            assert old.read().startswith(b"HTTP/1.1 200")
        lines.pop().socket.close()
        until(lambda: len(tasks(limited)) == 19, "the request is not given up")
        assert limited.request("GET", "/v1/whoami", key=limited.admin_key).status == 200


def test_silent_connections_do_not_fill_the_reserve(limited: Server) -> None:
    with ExitStack() as stack:
        occupied(limited, stack)
        for _ in range(30):
            stack.enter_context(Line(limited))
        assert limited.request("GET", "/readyz").status == 200
        assert len(limited.connections) <= 23


def test_one_address_has_a_share(limited: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited.connections, "limits", OneAddress(per_address=5))
    with ExitStack() as stack:
        lines = occupied(limited, stack, 5)
        # The reset may come as early as the connection itself.
        with contextlib.suppress(ConnectionResetError), Line(limited) as beyond:
            assert beyond.read() == b""
        lines.pop().socket.close()
        until(lambda: len(tasks(limited)) == 4, "the request is not given up")
        assert limited.request("GET", "/livez").status == 200


@pytest.mark.parametrize(("host", "group"), [
    ("127.0.0.1", None), ("127.9.9.9", None), ("::1", None), ("::ffff:127.0.0.1", None), (None, None),
    ("198.51.100.7", "198.51.100.7"), ("::ffff:198.51.100.7", "198.51.100.7"),
    ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("2001:db8:1:2::", "2001:db8:1:2::/64"),
    ("fe80::1%eth0", "fe80::/64"), ("10.1.2.3", None), ("::ffff:10.1.2.3", None), ("fd00::1", None),
])  # fmt: skip
def test_what_counts_as_one_address(host: str | None, group: str | None) -> None:
    limits = ConnectionLimits(trusted=("10.0.0.0/8", "fd00::/8"))
    assert limits.group_of(host) == group
