"""The log names the address of callers that are refused: one line each, whatever their headers say."""

from __future__ import annotations

from typing import Any

import pytest

from server.http import problems
from server.http.protocol.watching.address_log import AddressLog
from tests.support.raw_http import Line, head
from tests.support.serving import Server


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    monkeypatch.setattr(problems, "_refusals", AddressLog("a caller is refused"))
    monkeypatch.setattr(problems.log, "info", lambda event, **fields: written.append(fields))
    return written


def test_refusals_are_logged_by_address(shared_server: Server, lines: list[dict[str, Any]]) -> None:
    server = shared_server
    viewer = server.create_key(server.org, "viewer")
    forged = {"x-forwarded-for": "203.0.113.9", "x-real-ip": "203.0.113.9"}
    for _ in range(20):
        assert server.request("GET", "/v1/whoami", headers=forged).status == 401
        path = f"/v1/orgs/{server.org}/entries"  # one of the short routes
        assert server.request("POST", path, {"n": 1}, key="made up").status == 401
        assert server.request("POST", path, {"n": 1}, key=viewer).status == 403
    assert lines == [
        {"address": "127.0.0.1", "cause": "unauthorized", "times": 1},
        {"address": "127.0.0.1", "cause": "forbidden", "times": 1},
    ]


def test_success_is_not_logged(shared_server: Server, lines: list[dict[str, Any]]) -> None:
    with Line(shared_server) as line:
        line.send(head("GET", "/v1/whoami", shared_server.admin_key))
        assert line.next_answer().status == 200
    assert lines == []
