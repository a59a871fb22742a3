"""The room for large bodies is bounded per org and in total: one tenant can't fill the memory."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from ledger.errors import QueueFull
from server.http.bodies import BodyRoom, body_room, reading
from tests.support.raw_http import Line
from tests.support.serving import Server

MIB = 1 << 20


def test_room_is_bounded_per_org_and_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "TOTAL_BYTES", 100 * MIB)
    room = BodyRoom().holding
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(room(1, 16 * MIB))
        with pytest.raises(QueueFull) as mine, room(1, 16 * MIB):
            pass
        assert not mine.value.everyone
        held.enter_context(room(2, 30 * MIB))
        with pytest.raises(QueueFull) as all_of_them, room(3, 16 * MIB):
            pass
        assert all_of_them.value.everyone
    full = BodyRoom().holding
    with full(1, 90 * MIB):  # a single body always has room, whatever its size
        pass


def test_an_org_at_its_limit_is_asked_to_retry_and_others_go_on(server: Server) -> None:
    head = (
        f"POST /v1/orgs/{server.org}/entries HTTP/1.1\r\nhost: x\r\nx-api-key: {server.admin_key}\r\n"
        f"content-type: application/json\r\ncontent-length: {16 * MIB}\r\n\r\n["
    ).encode()
    other, key = server.create_org()
    assert server.services is not None
    with ExitStack() as open_lines:
        for _ in range(4):
            open_lines.enter_context(Line(server)).send(head)
        deadline = time.monotonic() + 20
        while server.services.part(body_room).held < 64 * MIB:
            assert time.monotonic() < deadline, "the large requests did not arrive"
            time.sleep(0.01)
        refused = open_lines.enter_context(Line(server))
        refused.send(head)
        answer = refused.next_answer()
        assert answer.status == 429
        assert answer.headers["retry-after"]
        large = [{"n": "x" * 1000}] * 500
        assert server.request("POST", f"/v1/orgs/{other}/entries", large, key=key).status == 201
        small = server.request(
            "POST", f"/v1/orgs/{server.org}/entries", {"n": 1}, key=server.admin_key
        )
        assert small.status == 201
