"""Watching a verification: events until the job ends or the client disconnects."""

from __future__ import annotations

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
