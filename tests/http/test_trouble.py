"""Requests are refused with a reason while the trail or the database has a fault; nothing is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import asyncpg

from tests.plugins.server import StartServer
from tests.support.clusters import Database, OwnCluster, blocking
from tests.support.locks import held
from tests.support.posting import post
from tests.support.serving import Server, start_server
from tests.support.waiting import until


async def _execute(url: str, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


def _head_locked(
    server: Server, org: str, release: threading.Event
) -> AbstractContextManager[None]:
    """Lock an org's head row until ``release`` is set, as another server's slow append would."""
    lock = "SELECT FROM heads JOIN orgs ON orgs.id = org_id WHERE slug = $1 FOR UPDATE OF heads"
    return held(server.database, lambda one: one.execute(lock, org), release)


def test_a_damaged_trail_is_frozen_shown_and_thawed(server: Server) -> None:
    org, key = server.org, server.admin_key
    bystander, other_key = server.create_org()
    for _ in range(3):
        assert post(server, org, key).status == 201
    blocking(
        _execute(
            server.database.superuser_url,
            "UPDATE heads SET entry_hash = sha256('x') "
            "WHERE org_id = (SELECT id FROM orgs WHERE slug = $1)",
            org,
        )
    )
    refused = post(server, org, key)
    assert (refused.status, refused.json()["type"].rpartition("/")[2]) == (423, "org-frozen")
    assert refused.json()["reason"]
    assert post(server, bystander, other_key).status == 201

    shown = server.request("GET", f"/v1/orgs/{org}", key=key).json()
    assert shown["frozen"]["reason"] == refused.json()["reason"]
    events = server.request("GET", f"/v1/orgs/{org}/security-events", key=key).json()["events"]
    assert [event["kind"] for event in events] == ["org_frozen"]
    assert server.request("GET", f"/v1/orgs/{bystander}/security-events", key=other_key).json() == {
        "events": [],
        "next_cursor": None,
    }
    entries = server.request("GET", f"/v1/orgs/{org}/entries", key=key)
    assert entries.status == 200  # reading goes on

    thawed = server.request("POST", f"/v1/orgs/{org}/thaw", {"reason": "seen and known"}, key=key)
    assert (thawed.status, thawed.json()["frozen"]) == (200, None)
    assert post(server, org, key).status == 201
    newest = server.request("GET", f"/v1/orgs/{org}/entries?limit=2", key=key).json()["entries"]
    assert newest[1]["event_type"] == "quire.org_thawed"
    assert newest[1]["payload"]["reason"] == "seen and known"


def test_a_lost_database_is_reported_until_it_is_back(own_cluster: OwnCluster) -> None:
    database = Database(
        "quire", own_cluster.owner_url, own_cluster.server_url, own_cluster.superuser_url
    )
    server = start_server(database, own_cluster.postgres.data.parent / "server")
    try:
        org, key = server.create_org()
        assert post(server, org, key).status == 201
        own_cluster.kill()
        ready = server.request("GET", "/readyz")
        assert (ready.status, ready.json()["ready"]) == (503, False)
        assert server.request("GET", "/livez").status == 200
        for path, asked_with in (
            (f"/v1/orgs/{org}/head", key),
            ("/v1/whoami", "quire_live_" + "0" * 16 + "_" + "0" * 48),
        ):
            answer = server.request("GET", path, key=asked_with)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            # The database's address and its error are for the log, not for callers.
            for secret in (str(own_cluster.port), "127.0.0.1", "Errno", "onnect"):
                assert secret not in answer.json()["detail"], answer.json()
        own_cluster.start()
        until(lambda: server.request("GET", "/readyz").status == 200)
        assert post(server, org, key).json()["seq"] == 1
    finally:
        server.stop()


def test_appends_beyond_the_queue_are_asked_to_retry(start_servers: StartServer) -> None:
    server = start_servers(max_events=5, queue_events=5)
    org, key = server.create_org("plain")
    assert post(server, org, key).status == 201
    over = server.request("POST", f"/v1/orgs/{org}/entries", [{}] * 6, key=key)
    assert over.status == 413
    release = threading.Event()
    with _head_locked(server, org, release), ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(post, server, org, key)]
        until(lambda: bool(server.services and server.services.sequencer._in_flight))
        asked += [pool.submit(post, server, org, key) for _ in range(11)]
        # One append is in its transaction, five wait; the others are refused at once.
        until(lambda: sum(each.done() for each in asked) >= 6)
        refused = [each.result() for each in asked if each.done()]
        assert {answer.status for answer in refused} == {429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert refused[0].json()["type"].endswith("/too-many-requests")
        release.set()
        answers = [each.result() for each in asked]
    written = [answer.json()["seq"] for answer in answers if answer.status == 201]
    assert sorted(written) == list(range(1, len(written) + 1))
    assert len(written) + len(refused) == 12
