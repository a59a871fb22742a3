"""When the trail or the database is not as it should be: refused, said why, nothing lost."""

from __future__ import annotations

import time

import asyncpg

from tests.support.clusters import Database, OwnCluster, blocking
from tests.support.serving import Answer, Server, start_server


def post(server: Server, org: str, key: str) -> Answer:
    return server.request("POST", f"/v1/orgs/{org}/entries", {"event_type": "x"}, key=key)


async def _execute(url: str, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


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
        "events": []
    }
    entries = server.request("GET", f"/v1/orgs/{org}/entries", key=key)
    assert entries.status == 200  # reading goes on

    thawed = server.request("POST", f"/v1/orgs/{org}/thaw", {"reason": "seen and known"}, key=key)
    assert (thawed.status, thawed.json()["frozen"]) == (200, None)
    assert post(server, org, key).status == 201
    newest = server.request("GET", f"/v1/orgs/{org}/entries?limit=2", key=key).json()["entries"]
    assert newest[1]["event_type"] == "quire.org_thawed"
    assert newest[1]["payload"]["reason"] == "seen and known"


def test_without_its_database_the_server_says_so_and_comes_back(own_cluster: OwnCluster) -> None:
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
            # Where the database is and what it said are for the log, not for callers.
            for secret in (str(own_cluster.port), "127.0.0.1", "Errno", "onnect"):
                assert secret not in answer.json()["detail"], answer.json()
        own_cluster.start()
        deadline = time.monotonic() + 30
        while server.request("GET", "/readyz").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert post(server, org, key).json()["seq"] == 1
    finally:
        server.stop()
