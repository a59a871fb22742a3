"""A revoked key writes nothing more once its revocation was answered, and its streams end."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ledger.storage.database import Database
from server.access.keys.changes import AskedKey
from server.http.protocol.watching.receiving import body_of_request
from tests.support.clusters import blocking
from tests.support.raw_http import Line, head
from tests.support.serving import PeerAnswer, Server, start_server
from tests.support.signed_trees import SignedTrees
from tests.support.waiting import until
from tests.support.watching import never_ending

FOLLOWERS = (
    "server.trails.tasks:follow_notifications",
    "server.trails.tasks:follow_register",
    "server.trails.tasks:end_revoked",
)
"""The tasks by which a process hears of what others changed."""
SECOND_S = 1.0
SLACK_S = 1.5
"""For a machine on which other tests run."""


@pytest.fixture(scope="module")
def deaf(shared_server: Server) -> Iterator[Server]:
    """A second server on the same database, which hears of no revocation by itself."""
    server = start_server(shared_server.database, shared_server.settings.data_dir)
    server.platform_key = shared_server.platform_key
    assert server.services is not None
    for task in server.services._tasks:
        if task.get_name() in FOLLOWERS:
            task.get_loop().call_soon_threadsafe(task.cancel)
    until(lambda: not _followed(server))
    yield server
    server.stop()


def _followed(server: Server) -> bool:
    assert server.services is not None
    return any(task.get_name() in FOLLOWERS and not task.done() for task in server.services._tasks)


@pytest.fixture
def org(shared_server: Server) -> tuple[str, str]:
    return shared_server.create_org("plain")


def revoke(server: Server, org: tuple[str, str], key: str) -> None:
    """Revoke a key by another one, and return once that was answered."""
    path = f"/v1/orgs/{org[0]}/keys/{key.split('_')[2]}"
    assert server.request("DELETE", path, key=org[1]).status == 204


def seq(server: Server, org: tuple[str, str]) -> int:
    return int(server.request("GET", f"/v1/orgs/{org[0]}/head", key=org[1]).json()["seq"])


def refused(answer: PeerAnswer) -> None:
    assert (answer.status, answer.json()["type"].rpartition("/")[2]) == (401, "unauthorized")


WRITES = {
    "append": ("POST", "/entries", b'{"event_type":"late"}'),
    "batch": ("POST", "/entries", b'[{"event_type":"late"},{"event_type":"late"}]'),
    "key": ("POST", "/keys", b'{"name":"late","role":"admin"}'),
    "name": ("PATCH", "", b'{"name":"late"}'),
    "verification": ("POST", "/verifications", b"{}"),
    "bundle": ("POST", "/bundles", b'{"from_seq":0}'),
}


@pytest.mark.parametrize("what", WRITES)
def test_a_body_that_arrives_after_the_revocation_does_nothing(
    shared_server: Server, org: tuple[str, str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    server, (method, path, body) = shared_server, WRITES[what]
    key = server.create_key(org[0], "admin")
    kept = server.request("GET", f"/v1/orgs/{org[0]}/keys", key=org[1]).json()["keys"]
    before = seq(server, org)
    began: list[object] = []

    async def noted(*arguments: Any) -> bytes | bytearray:
        began.append(arguments)
        return await body_of_request(*arguments)

    monkeypatch.setattr("server.http.bodies.reading.body_of_request", noted)
    with Line(server) as line:
        sent = head(
            method,
            f"/v1/orgs/{org[0]}{path}",
            key,
            content_length=str(len(body)),
            content_type="application/json",
            connection="close",
        )
        line.send(sent + body[:1])
        until(lambda: began)
        revoke(server, org, key)
        line.send(body[1:])
        refused(line.answer())
    assert seq(server, org) == before
    now = server.request("GET", f"/v1/orgs/{org[0]}/keys", key=org[1]).json()["keys"]
    assert len(now) == len(kept)
    assert server.request("GET", f"/v1/orgs/{org[0]}", key=org[1]).json()["name"] != "late"


def test_a_server_that_heard_of_no_revocation_appends_nothing(
    shared_server: Server, deaf: Server, org: tuple[str, str]
) -> None:
    """The transaction decides: it counts revocations under the lock of the head."""
    key, path = shared_server.create_key(org[0], "member"), f"/v1/orgs/{org[0]}/entries"
    assert deaf.request("POST", path, {"n": 1}, key=key).status == 201
    revoke(shared_server, org, key)
    before = seq(shared_server, org)
    refused(deaf.request("POST", path, {"n": 2}, key=key))
    refused(deaf.request("POST", path, [{"n": 3}, {"n": 4}], key=key))
    assert seq(shared_server, org) == before
    # Other keys of the org are looked up again, and go on.
    assert deaf.request("POST", path, {"n": 5}, key=org[1]).status == 201


def test_a_server_that_heard_of_no_revocation_changes_nothing(
    shared_server: Server, deaf: Server
) -> None:
    """All other transactions hold the row of the caller's key."""
    org = shared_server.create_org("sealed")
    path, key = f"/v1/orgs/{org[0]}", shared_server.create_key(org[0], "admin")
    event = {"actor": "bob", "subject": "bob"}
    assert deaf.request("POST", f"{path}/entries", event, key=key).status == 201
    revoke(shared_server, org, key)
    for method, rest, body in (
        ("POST", "/keys", {"name": "late", "role": "admin"}),
        ("PATCH", "", {"name": "late"}),
        ("POST", "/erasures", {"subject": "bob"}),
        ("DELETE", f"/keys/{org[1].split('_')[2]}", None),
    ):
        refused(deaf.request(method, path + rest, body, key=key))
    names = [one["name"] for one in deaf.request("GET", f"{path}/keys", key=org[1]).json()["keys"]]
    assert "late" not in names
    shown = shared_server.request("GET", f"{path}/entries", key=org[1]).json()["entries"]
    assert [entry["erased"] for entry in shown] == [False]


def test_a_revoked_platform_key_writes_nothing_on_any_server(
    shared_server: Server, deaf: Server, org: tuple[str, str]
) -> None:
    services = shared_server.services
    assert services is not None
    new = services.authenticator.new_key()
    loop = services._tasks[0].get_loop()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    asked = AskedKey(new.key_id, None, "second", "platform", new.secret_hash)
    run(services.key_changes.add(asked, None))
    path = f"/v1/orgs/{org[0]}/entries"
    for server in (shared_server, deaf):
        assert server.request("POST", path, {"n": 1}, key=new.token).status == 201
    record = run(services.authenticator.keys.find(new.key_id))
    assert run(services.key_changes.revoke(record, None))
    before = seq(shared_server, org)
    for server in (shared_server, deaf):
        refused(server.request("POST", path, {"n": 2}, key=new.token))
        made = {"slug": f"late-{secrets.token_hex(3)}"}
        refused(server.request("POST", "/v1/orgs", made, key=new.token))
    assert seq(shared_server, org) == before


def test_no_append_is_committed_after_the_answer_to_the_revocation(
    shared_server: Server, deaf: Server, org: tuple[str, str]
) -> None:
    """Appends run all the while on two servers; the last one is older than the 204."""

    key, path = shared_server.create_key(org[0], "member"), f"/v1/orgs/{org[0]}/entries"
    statuses: list[int] = []
    stop = threading.Event()

    def append(server: Server) -> None:
        while not stop.is_set():
            statuses.append(server.request("POST", path, {}, key=key).status)

    threads = [
        threading.Thread(target=append, args=(server,)) for server in (shared_server, deaf) * 2
    ]
    for thread in threads:
        thread.start()
    until(lambda: statuses.count(201) > 20)
    revoke(shared_server, org, key)
    last = seq(shared_server, org)
    until(lambda: statuses[-8:] == [401] * 8)
    stop.set()
    for thread in threads:
        thread.join()
    assert seq(shared_server, org) == last
    assert set(statuses) == {201, 401}


def ends_soon(line: Line, server: Server, org: tuple[str, str], key: str) -> bytes:
    """Revoke the key of a request that is being answered; returns the rest of its answer."""
    line.socket.settimeout(20)
    revoke(server, org, key)
    began = time.monotonic()
    rest = line.read()
    assert time.monotonic() - began < SECOND_S + SLACK_S
    return rest


@pytest.mark.parametrize("revoked_by", ["this server", "another server"])
def test_the_event_stream_of_a_revoked_key_ends(
    shared_server: Server, deaf: Server, revoked_by: str
) -> None:
    server, org = shared_server, (shared_server.org, shared_server.admin_key)
    key, job = server.create_key(org[0], "viewer"), blocking(never_ending(server))
    with Line(server) as line, Line(server) as other:
        for one, sender in ((line, key), (other, org[1])):
            one.send(head("GET", f"/v1/orgs/{org[0]}/verifications/{job}/events", sender))
            received = b""
            while b"event: progress" not in received:
                received += one.socket.recv(65_536)
        by = server if revoked_by == "this server" else deaf
        assert not ends_soon(line, by, org, key).endswith(b"0\r\n\r\n")
        other.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):  # that of another key goes on
            other.socket.recv(1)


def change(server: Server, org: tuple[str, str], key: str, **changes: Any) -> None:
    path = f"/v1/orgs/{org[0]}/keys/{key.split('_')[2]}"
    assert server.request("PATCH", path, changes, key=org[1]).status == 200


def test_the_event_stream_of_a_changed_key_goes_on_from_its_addresses_alone(
    shared_server: Server, deaf: Server
) -> None:
    server, org = shared_server, (shared_server.org, shared_server.admin_key)
    key, job = server.create_key(org[0], "viewer"), blocking(never_ending(server))
    with Line(server) as line:
        line.send(head("GET", f"/v1/orgs/{org[0]}/verifications/{job}/events", key))
        received = b""
        while b"event: progress" not in received:
            received += line.socket.recv(65_536)
        for by, changes in ((server, {"name": "other"}), (deaf, {"allowed_cidrs": ["127.0.0.1"]})):
            change(by, org, key, **changes)
            line.socket.settimeout(SECOND_S)
            with pytest.raises(TimeoutError):  # it goes on
                line.socket.recv(1)
        change(deaf, org, key, allowed_cidrs=["192.0.2.1"])
        line.socket.settimeout(20)
        assert not line.read().endswith(b"0\r\n\r\n")


def test_the_event_stream_of_an_expired_key_ends(shared_server: Server) -> None:
    server, org = shared_server, (shared_server.org, shared_server.admin_key)
    key, job = server.create_key(org[0], "viewer"), blocking(never_ending(server))
    with Line(server) as line:
        line.send(head("GET", f"/v1/orgs/{org[0]}/verifications/{job}/events", key))
        received = b""
        while b"event: progress" not in received:
            received += line.socket.recv(65_536)
        path = f"/v1/orgs/{org[0]}/keys/{key.split('_')[2]}/rotate"
        assert server.request("POST", path, {"overlap_hours": 0}, key=org[1]).status == 201
        line.socket.settimeout(20)
        began = time.monotonic()
        assert not line.read().endswith(b"0\r\n\r\n")
        assert time.monotonic() - began < SECOND_S + SLACK_S


def test_a_server_that_heard_of_no_rotation_appends_nothing_after_the_overlap(
    shared_server: Server, deaf: Server, org: tuple[str, str]
) -> None:
    path = f"/v1/orgs/{org[0]}/entries"
    for body, status in (({"overlap_hours": 1}, 201), ({"overlap_hours": 0}, 401)):
        key = shared_server.create_key(org[0], "member")
        assert deaf.request("POST", path, {"n": 1}, key=key).status == 201
        rotate = f"/v1/orgs/{org[0]}/keys/{key.split('_')[2]}/rotate"
        assert shared_server.request("POST", rotate, body, key=org[1]).status == 201
        assert deaf.request("POST", path, {"n": 2}, key=key).status == status


def test_a_long_poll_of_a_revoked_key_ends_with_401(shared_server: Server) -> None:
    server, org = shared_server, shared_server.create_org("plain")
    key = server.create_key(org[0], "viewer")
    jobs = server.services
    assert jobs is not None
    work = jobs.verifications._tasks[0]
    work.get_loop().call_soon_threadsafe(work.cancel)  # so that no job ends
    with Line(server) as line:
        path = f"/v1/orgs/{org[0]}/verifications?wait=60"
        line.send(head("POST", path, key, content_length="0", connection="close"))
        until(lambda: any(live.interruptible for live in jobs.live._live.values()))
        answer = ends_soon(line, server, org, key)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nwww-authenticate: Bearer\r\n" in answer


def test_an_append_that_waits_for_its_checkpoint_is_answered_without_proof(
    shared_server: Server,
) -> None:
    """The entry is written: the answer says so, and nothing is proved any more."""
    server, org = shared_server, shared_server.create_org("plain")
    key = server.create_key(org[0], "member")
    with Line(server) as line:
        path = f"/v1/orgs/{org[0]}/entries?wait=checkpoint"
        line.send(head("POST", path, key, content_length="2", connection="close") + b"{}")
        until(lambda: seq(server, org) == 0)
        answer = ends_soon(line, server, org, key)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert b'"proof":null' in answer


async def test_a_search_of_a_revoked_key_ends_with_401(shared_server: Server) -> None:
    """The names of persons are locked meanwhile, so that the search takes as long as it likes."""
    server, org = shared_server, shared_server.create_org("sealed")
    key = server.create_key(org[0], "admin")

    def search() -> bytes:
        with Line(server) as line:
            path = f"/v1/orgs/{org[0]}/entries?actor=bob"
            line.send(head("GET", path, key, connection="close"))
            assert server.services is not None
            live = server.services.live._live
            until(lambda: any(one.principal.key_id in key for one in list(live.values())))
            return ends_soon(line, server, org, key)

    database = await Database.open(server.database.superuser_url, size=1)
    try:
        async with database.transaction() as connection:
            await connection.execute("LOCK TABLE subjects IN ACCESS EXCLUSIVE MODE")
            answer = await asyncio.to_thread(search)
    finally:
        await database.close()
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_the_bundle_of_a_revoked_key_breaks_off(shared_server: Server) -> None:
    server, org = shared_server, shared_server.create_org("plain")
    key, path = server.create_key(org[0], "viewer"), f"/v1/orgs/{org[0]}"
    events = [{"data": secrets.token_hex(200_000)} for _ in range(30)]
    for _ in range(2):
        assert server.request("POST", f"{path}/entries", events, key=org[1]).status == 201

    SignedTrees(server).sign()
    body = b'{"from_seq":0,"include_payloads":true,"include_pq_attestation":false}'
    with Line(server) as line:
        sent = head(
            "POST",
            f"{path}/bundles",
            key,
            content_length=str(len(body)),
            content_type="application/json",
        )
        line.send(sent + body)
        begun = line.socket.recv(1_000)
        assert begun.startswith(b"HTTP/1.1 200 "), begun
        rest = ends_soon(line, server, org, key)
    assert not rest.endswith(b"0\r\n\r\n")


def test_a_key_that_revokes_itself_gets_its_answer(shared_server: Server) -> None:
    org = shared_server.create_org("plain")
    revoke(shared_server, org, org[1])
    path = f"/v1/orgs/{org[0]}/head"
    refused(shared_server.request("GET", path, key=org[1]))


def test_nothing_live_is_left(shared_server: Server) -> None:
    services = shared_server.services
    assert services is not None
    until(lambda: len(services.live._live) <= 1)
