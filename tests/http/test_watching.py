"""Watching a verification: events until the job ends or the client disconnects."""

from __future__ import annotations

import pytest

from server.http.streams.event_streams import event_streams
from tests.support.clusters import blocking
from tests.support.raw_http import Line, head
from tests.support.serving import Server
from tests.support.waiting import until
from tests.support.watching import never_ending


def test_events_end_with_the_verification(shared_server: Server) -> None:
    server, path = shared_server, f"/v1/orgs/{shared_server.org}/verifications"
    job = server.request("POST", path, {}, key=server.admin_key)
    assert job.status == 202
    events = server.request("GET", f"{path}/{job.json()['id']}/events", key=server.admin_key)
    assert events.headers["content-type"].startswith("text/event-stream")
    names = [
        line.removeprefix("event: ")
        for line in events.body.decode().splitlines()
        if line.startswith("event: ")
    ]
    assert names[-1] == "done"
    assert set(names[:-1]) <= {"progress"}


def test_the_watch_ends_with_its_client(shared_server: Server) -> None:
    server = shared_server
    job = blocking(never_ending(server))
    path = f"/v1/orgs/{server.org}/verifications/{job}"
    assert server._server is not None
    tasks = server._server.server_state.tasks
    with Line(server) as line:
        line.send(head("GET", f"{path}/events", server.admin_key))
        received = b""
        while b"event: progress" not in received:
            received += line.socket.recv(65_536)
        assert tasks
    until(lambda: not tasks)


def test_a_wait_returns_the_finished_job(shared_server: Server) -> None:
    server, path = shared_server, f"/v1/orgs/{shared_server.org}/verifications"
    done = server.request("POST", f"{path}?wait=30", key=server.admin_key)
    assert (done.status, done.json()["state"]) == (200, "done")
    for wait in ("-1", "61", "x", "nan", "inf"):
        refused = server.request("POST", f"{path}?wait={wait}", key=server.admin_key)
        assert refused.status == 400, wait
    for body in (
        b"[]",
        b'{"from_seq":-1}',
        b'{"from_seq":5,"to_seq":4}',
        b'{"x":1}',
        b"\xff",
        b'{"to_seq":1e99}',
    ):
        refused = server.request("POST", path, body, key=server.admin_key)
        assert refused.status == 400, body


def test_an_org_has_a_bound_of_open_streams_and_others_have_theirs(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = shared_server
    assert server.services is not None
    streams = server.services.part(event_streams)
    until(lambda: not streams.held, "an earlier stream is left")
    monkeypatch.setattr(streams, "of_org", 2)
    path = f"/v1/orgs/{server.org}/verifications/{blocking(never_ending(server))}/events"
    other, key = server.create_org("plain")
    done = server.request("POST", f"/v1/orgs/{other}/verifications?wait=30", key=key).json()
    with Line(server) as first, Line(server) as second:
        for line in (first, second):
            line.send(head("GET", path, server.admin_key))
            assert b"200 OK" in line.socket.recv(65_536)
        refused = server.request("GET", path, key=server.admin_key)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["type"].endswith("/too-many-requests")
        events = f"/v1/orgs/{other}/verifications/{done['id']}/events"
        assert server.request("GET", events, key=key).status == 200
        missing = server.request("GET", f"{events}x", key=key)
        assert missing.status == 404
    until(lambda: not streams.held, "a stream is left")
