"""Rate limits whose rows were changed, put back or removed lift nothing; a change reaches all servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.support.clusters import Cluster, blocking
from tests.support.posting import problem_of
from tests.support.serving import PeerAnswer, Server, start_server
from tests.support.waiting import until


@pytest.fixture(scope="module")
def servers(postgres_cluster: Cluster, session_dir: Path) -> Iterator[list[Server]]:
    """Two servers on one database."""
    database, home = postgres_cluster.migrated(), session_dir / uuid4().hex[:8]
    running = [start_server(database, home) for _ in "ab"]
    yield running
    for server in running:
        server.stop()
    postgres_cluster.drop(database)


@pytest.fixture
def server(servers: list[Server]) -> Server:
    return servers[0]


def owner(server: Server, *statements: str) -> None:
    """Run statements as the owner."""

    async def execute() -> None:
        connection = await asyncpg.connect(server.database.superuser_url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    blocking(execute())


def set_limit(server: Server, org: str, key: str, count: int | None) -> PeerAnswer:
    body = {"key": {"append_per_minute": count}, "org": {}}
    return server.request("PUT", f"/v1/orgs/{org}/limits", body, key=key)


def append(server: Server, org: str, key: str) -> PeerAnswer:
    return server.request("POST", f"/v1/orgs/{org}/entries", {"n": 1}, key=key)


def limited(server: Server) -> tuple[str, str, str]:
    """An org that may append once a minute, its admin's key, and a condition for its row."""
    org, key = server.create_org("plain")
    assert set_limit(server, org, key, 1).status == 200
    assert append(server, org, key).status == 201
    return org, key, f"org_id = (SELECT id FROM orgs WHERE slug = '{org}')"


def forget(server: Server) -> None:
    """Forget the limits that the server has read, as a process that has just begun."""
    assert server.services is not None
    server.services.limits.known._own.clear()


def refused_row(answer: PeerAnswer) -> bool:
    return (answer.status, problem_of(answer)) == (500, "row-not-authentic")


CHANGES: dict[str, str] = {
    "no limit": "UPDATE org_limits SET key_append = 0 WHERE {}",
    "a looser limit": "UPDATE org_limits SET key_append = 1000 WHERE {}",
    "another limit": "UPDATE org_limits SET org_read = 5 WHERE {}",
    "no MAC": "UPDATE org_limits SET mac = '' WHERE {}",
    "removed": "DELETE FROM org_limits WHERE {}",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_row_lifts_no_limit_until_it_is_set_again(server: Server, change: str) -> None:
    org, key, where = limited(server)
    owner(server, change.format(where))
    assert append(server, org, key).status == 429  # as it was known before
    forget(server)
    assert refused_row(append(server, org, key))
    assert refused_row(server.request("GET", f"/v1/orgs/{org}/limits", key=key))
    other, other_key = server.create_org("plain")
    assert append(server, other, other_key).status == 201
    assert append(server, org, server.platform_key).status == 201
    assert set_limit(server, org, key, 2).status == 200
    assert append(server, org, key).status == 201
    assert append(server, org, key).status == 429
    path = f"/v1/orgs/{org}/security-events"
    found = server.request("GET", path, key=server.platform_key).json()["events"]
    assert any("table org_limits" in event["detail"] for event in found)


def test_an_older_row_that_is_put_back_lifts_no_limit(server: Server) -> None:
    org, key = server.create_org("plain")
    assert set_limit(server, org, key, None).status == 200
    where = f"org_id = (SELECT id FROM orgs WHERE slug = '{org}')"
    owner(server, f"CREATE TABLE kept_limits AS SELECT * FROM org_limits WHERE {where}")
    assert set_limit(server, org, key, 1).status == 200
    assert [append(server, org, key).status for _ in "ab"] == [201, 429]
    owner(
        server,
        f"DELETE FROM org_limits WHERE {where}",
        "INSERT INTO org_limits SELECT * FROM kept_limits",
        "DROP TABLE kept_limits",
    )
    assert append(server, org, key).status == 429
    forget(server)
    assert refused_row(append(server, org, key))


def test_a_row_that_was_made_in_the_database_is_no_limit(server: Server) -> None:
    org, key = server.create_org("plain")
    owner(
        server,
        "INSERT INTO org_limits (org_id, key_append, key_read, key_verify, org_append, org_read, "
        f"org_verify, mac) SELECT id, 1, 1, 1, 1, 1, 1, '' FROM orgs WHERE slug = '{org}'",
    )
    forget(server)
    assert [append(server, org, key).status for _ in "abc"] == [201] * 3
    job = server.request("POST", f"/v1/orgs/{org}/verifications?wait=60", {}, key=key).json()
    faults: list[dict[str, Any]] = job["result"]["errors"]
    assert any("table org_limits" in fault["reason"] for fault in faults)


def test_a_change_reaches_the_other_server(servers: list[Server]) -> None:
    here, there = servers
    org, key = here.create_org("plain")
    assert append(there, org, key).status == 201
    assert set_limit(here, org, key, 1).status == 200
    until(lambda: append(there, org, key).status == 429, "the limit does not hold there")
    assert set_limit(there, org, here.platform_key, None).status == 200
    until(lambda: append(here, org, key).status == 201, "the limit holds on here")
