"""Older rows that were right once and are put back decide nothing; nor do rows that are removed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
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
def home(session_dir: Path) -> Path:
    return session_dir / uuid4().hex[:8]


@pytest.fixture(scope="module")
def server(postgres_cluster: Cluster, home: Path) -> Iterator[Server]:
    """A server for all tests here: each has an org of its own."""
    database = postgres_cluster.migrated()
    running = start_server(database, home)
    yield running
    running.stop()
    postgres_cluster.drop(database)


class FreshProcess:
    """A second process on the database, which starts at its first request: it has read no row yet."""

    def __init__(self, server: Server, home: Path) -> None:
        self.platform_key = server.platform_key
        self._server = server
        self._home = home

    @cached_property
    def running(self) -> Server:
        return start_server(self._server.database, self._home)

    def request(self, *args: Any, **options: Any) -> PeerAnswer:
        return self.running.request(*args, **options)


@pytest.fixture
def fresh(server: Server, home: Path) -> Iterator[FreshProcess]:
    """A second process, which starts when it is asked."""
    process = FreshProcess(server, home)
    yield process
    process.running.stop()


def owner(server: Server, *statements: str) -> list[Any]:
    """Run statements as the owner with triggers off; return the rows of the last one."""

    async def execute() -> list[Any]:
        connection = await asyncpg.connect(server.database.superuser_url)
        try:
            await connection.execute("SET session_replication_role = replica")
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetch(statements[-1])
        finally:
            await connection.close()

    found: list[Any] = blocking(execute())
    return found


def key_id(key: str) -> str:
    return key.split("_")[2]


def whoami(server: Server, key: str) -> int:
    return server.request("GET", "/v1/whoami", key=key).status


def reported(server: Server, words: str) -> None:
    """Wait for a security event about a row."""
    query = f"SELECT 1 FROM security_events WHERE kind = 'row_not_authentic' AND detail LIKE '%{words}%'"
    until(lambda: owner(server, query), f"no event about {words}")


def append(server: Server | FreshProcess, org: str, key: str, event: dict[str, str]) -> PeerAnswer:
    return server.request("POST", f"/v1/orgs/{org}/entries", event, key=key)


def test_a_revoked_key_that_is_put_back_as_it_was_stays_refused(server: Server) -> None:
    org, admin = server.create_org()
    viewer = server.create_key(org, "viewer")
    owner(server, f"CREATE TABLE kept_key AS SELECT * FROM api_keys WHERE id = '{key_id(viewer)}'")
    assert whoami(server, viewer) == 200
    path = f"/v1/orgs/{org}/keys/{key_id(viewer)}"
    assert server.request("DELETE", path, key=admin).status == 204
    owner(
        server,
        f"DELETE FROM api_keys WHERE id = '{key_id(viewer)}'",
        "INSERT INTO api_keys SELECT * FROM kept_key",
    )
    assert whoami(server, viewer) == 401
    assert whoami(server, admin) == 200
    listed = server.request("GET", f"/v1/orgs/{org}/keys", key=admin).json()["keys"]
    assert {key["id"]: key["authentic"] for key in listed} == {
        key_id(viewer): False,
        key_id(admin): True,
    }
    reported(server, key_id(viewer))


def test_a_removed_key_is_reported(server: Server) -> None:
    org, _ = server.create_org()
    viewer = server.create_key(org, "viewer")
    owner(server, f"DELETE FROM api_keys WHERE id = '{key_id(viewer)}' RETURNING 1")
    assert whoami(server, viewer) == 401
    reported(server, key_id(viewer))


ORG_CHANGES = {
    "privacy": "privacy = 'plain'",
    "name": "name = 'another'",
    "wrapped key": "wrapped_key = (SELECT wrapped_key FROM orgs WHERE slug = 'system')",
    "log": "log_public = true",
    "lost keys": "keys_lost_below = 1000",
    "age of keys": "max_key_age_days = 365",
    "mac": "mac = ''",
    "the MAC of another org": "mac = (SELECT mac FROM orgs WHERE slug = 'system')",
}


@pytest.mark.parametrize("change", ORG_CHANGES.values(), ids=ORG_CHANGES.keys())
def test_a_changed_org_is_refused_and_no_other_is(
    server: Server, change: str, fresh: FreshProcess
) -> None:
    org, key = server.create_org()
    other, other_key = server.create_org()
    owner(server, f"UPDATE orgs SET {change} WHERE slug = '{org}' RETURNING 1")
    refused = append(fresh, org, key, {"event_type": "met", "subject": "dora"})
    assert (refused.status, problem_of(refused)) == (500, "row-not-authentic")
    assert append(fresh, other, other_key, {"event_type": "met", "subject": "dora"}).status == 201
    anonymous = fresh.request("GET", f"/v1/orgs/{org}/log/checkpoint")
    assert anonymous.status == 401
    reported(server, org)
    listed: dict[str, bool] = {}
    for slug in (org, other):
        path = f"/v1/orgs?limit=1&cursor={slug[:-1]}"  # the next slug after it
        listed |= {
            one["slug"]: one["authentic"]
            for one in server.request("GET", path, key=server.platform_key).json()["orgs"]
        }
    assert listed == {org: False, other: True}


def test_an_org_whose_older_row_is_put_back_is_refused(server: Server, fresh: FreshProcess) -> None:
    org, key = server.create_org()
    path = f"/v1/orgs/{org}"
    published = server.request("PATCH", path, {"log_public": True}, key=key)
    assert published.status == 200
    owner(server, f"CREATE TABLE kept_org AS SELECT * FROM orgs WHERE slug = '{org}'")
    assert server.request("PATCH", path, {"log_public": False}, key=key).status == 200
    owner(
        server,
        "UPDATE orgs o SET log_public = k.log_public, mac = k.mac FROM kept_org k "
        "WHERE o.id = k.id RETURNING 1",
    )
    assert fresh.request("GET", f"{path}/log/checkpoint").status == 401
    refused = fresh.request("GET", path, key=key)
    assert (refused.status, problem_of(refused)) == (500, "row-not-authentic")


def test_a_removed_org_is_no_missing_org(server: Server, fresh: FreshProcess) -> None:
    org, _ = server.create_org()
    owner(server, f"DELETE FROM orgs WHERE slug = '{org}' RETURNING 1")
    answer = fresh.request("GET", f"/v1/orgs/{org}", key=fresh.platform_key)
    assert (answer.status, problem_of(answer)) == (500, "row-not-authentic")
    reported(server, org)


def test_a_freeze_that_is_taken_out_of_the_row_still_holds(
    server: Server, fresh: FreshProcess
) -> None:
    org, key = server.create_org("plain")
    assert append(server, org, key, {"event_type": "one"}).status == 201
    where = f"org_id = (SELECT id FROM orgs WHERE slug = '{org}')"
    owner(
        server,
        f"CREATE TABLE kept_head AS SELECT * FROM heads WHERE {where}",
        f"UPDATE heads SET entry_hash = sha256('x') WHERE {where} RETURNING 1",
    )
    assert append(server, org, key, {"event_type": "two"}).status == 423
    owner(
        server,
        f"DELETE FROM heads WHERE {where}",
        "INSERT INTO heads SELECT * FROM kept_head RETURNING 1",
    )
    processes: tuple[Server | FreshProcess, ...] = server, fresh
    for process in processes:
        answer = append(process, org, key, {"event_type": "three"})
        assert (answer.status, problem_of(answer)) == (423, "org-frozen")
    reported(server, org)
    thawed = server.request("POST", f"/v1/orgs/{org}/thaw", {"reason": "looked"}, key=key)
    assert thawed.status == 200
    for process in (server, fresh):
        assert append(process, org, key, {"event_type": "four"}).status == 201


def test_an_erased_person_whose_row_is_put_back_stays_erased(
    server: Server, fresh: FreshProcess
) -> None:
    org, key = server.create_org()
    made = append(server, org, key, {"event_type": "met", "subject": "anna"}).json()
    owner(
        server,
        "CREATE TABLE kept_person AS SELECT s.* FROM subjects s JOIN orgs o ON o.id = s.org_id "
        f"WHERE o.slug = '{org}'",
    )
    path = f"/v1/orgs/{org}"
    assert server.request("POST", f"{path}/erasures", {"subject": "anna"}, key=key).status == 200
    owner(server, "INSERT INTO subjects SELECT * FROM kept_person RETURNING 1")
    for process in (server, fresh):
        read = process.request("GET", f"{path}/entries/{made['record_id']}", key=key).json()
        assert (read["erased"], read["payload"]) == (True, None)
        refused = append(process, org, key, {"event_type": "met", "subject": "anna"})
        assert (refused.status, problem_of(refused)) == (500, "row-not-authentic")
        assert append(process, org, key, {"event_type": "met", "subject": "bert"}).status == 201
    reported(server, org)


def test_a_person_whose_row_is_removed_is_not_called_erased(server: Server) -> None:
    org, key = server.create_org()
    made = append(server, org, key, {"event_type": "met", "subject": "anna"}).json()
    owner(
        server,
        "DELETE FROM subjects WHERE org_id = (SELECT id FROM orgs "
        f"WHERE slug = '{org}') RETURNING 1",
    )
    path = f"/v1/orgs/{org}/entries/{made['record_id']}"
    read = server.request("GET", path, key=key).json()
    assert (read["erased"], read["sealed"], read["payload"]) == (False, True, None)
    payload = server.request("GET", f"{path}/payload", key=key)
    assert (payload.status, problem_of(payload)) == (500, "row-not-authentic")
    reported(server, org)


def verified(server: Server, org: str, key: str) -> dict[str, Any]:
    path = f"/v1/orgs/{org}/verifications?wait=60"
    answer: dict[str, Any] = server.request("POST", path, {}, key=key).json()
    assert answer["state"] == "done", answer
    found: dict[str, Any] = answer["result"]
    return found


def test_a_full_verification_names_rows_that_are_older_or_removed(server: Server) -> None:
    org, key = server.create_org("plain")
    assert append(server, org, key, {"event_type": "one"}).status == 201
    assert verified(server, org, key)["checks"]["rows"] is True
    revoked, removed = (server.create_key(org, "viewer") for _ in range(2))
    owner(server, f"CREATE TABLE kept_row AS SELECT * FROM api_keys WHERE id = '{key_id(revoked)}'")
    path = f"/v1/orgs/{org}/keys/{key_id(revoked)}"
    assert server.request("DELETE", path, key=key).status == 204
    assert verified(server, org, key)["checks"]["rows"] is True
    owner(
        server,
        f"DELETE FROM api_keys WHERE id IN ('{key_id(revoked)}', '{key_id(removed)}')",
        "INSERT INTO api_keys SELECT * FROM kept_row RETURNING 1",
    )
    found = verified(server, org, key)
    assert (found["verdict"], found["checks"]["rows"]) == ("refuted", False)
    named = {fault["kind"]: fault["reason"] for fault in found["errors"]}
    assert named.keys() == {"row_not_authentic", "row_missing"}
    assert key_id(revoked) in named["row_not_authentic"]
    assert key_id(removed) in named["row_missing"]
    assert append(server, org, key, {"event_type": "two"}).status == 201, "it is not frozen"


def test_a_full_verification_names_a_freeze_that_was_taken_out(server: Server) -> None:
    org, key = server.create_org("plain")
    assert append(server, org, key, {"event_type": "one"}).status == 201
    freeze = f"(SELECT id FROM orgs WHERE slug = '{org}')"
    planted = "frozen_at = now(), frozen_reason = 'planted'"
    owner(server, f"UPDATE heads SET {planted} WHERE org_id = {freeze} RETURNING 1")
    found = verified(server, org, key)
    assert found["checks"]["rows"] is False
    assert [fault["reason"].split()[3] for fault in found["errors"]] == ["heads"]


def test_a_freeze_by_the_signer_is_no_forged_one(server: Server) -> None:
    """The signer has no part in the register: its own table, which it alone writes, says why."""
    org, key = server.create_org("plain")
    assert append(server, org, key, {"event_type": "one"}).status == 201
    where = f"(SELECT id FROM orgs WHERE slug = '{org}')"
    frozen = "frozen_at = now(), frozen_reason = 'checkpoints stopped: doubt'"
    owner(
        server,
        f"UPDATE heads SET {frozen} WHERE org_id = {where}",
        "INSERT INTO trees (org_id, root, stopped_at, stopped_reason) "
        f"VALUES ({where}, sha256(''), now(), 'history_rewritten: doubt') RETURNING 1",
    )
    assert verified(server, org, key)["checks"]["rows"] is True


def test_a_change_makes_no_planted_value_right(server: Server) -> None:
    """The server's role may publish a log in its row: the MAC of the next change covered that too."""
    org, key = server.create_org("plain")
    owner(server, f"UPDATE orgs SET log_public = true WHERE slug = '{org}' RETURNING 1")
    refused = server.request("PATCH", f"/v1/orgs/{org}", {"name": "Another"}, key=key)
    assert (refused.status, problem_of(refused)) == (500, "row-not-authentic")
    assert server.request("GET", f"/v1/orgs/{org}/log/checkpoint").status == 401


def test_a_start_without_the_trail_that_records_the_rows_is_refused(
    postgres_cluster: Cluster, session_dir: Path
) -> None:
    database = postgres_cluster.migrated()
    data_dir = session_dir / uuid4().hex[:8]
    first = start_server(database, data_dir)
    first.create_org()
    first.stop()
    owner(first, "DELETE FROM orgs WHERE slug = 'system' RETURNING 1")
    with pytest.raises(Exception, match="not the org `system`"):
        start_server(database, data_dir)
    postgres_cluster.drop(database)


def test_orgs_are_frozen_although_the_trail_that_records_it_is_damaged(
    postgres_cluster: Cluster, session_dir: Path
) -> None:
    database = postgres_cluster.migrated()
    running = start_server(database, session_dir / uuid4().hex[:8])
    org, key = running.create_org("plain")
    other, other_key = running.create_org("plain")
    assert append(running, org, key, {"event_type": "one"}).status == 201
    where = f"org_id IN (SELECT id FROM orgs WHERE slug IN ('system', '{org}'))"
    owner(running, f"UPDATE heads SET entry_hash = sha256('x') WHERE {where} RETURNING 1")
    for _ in range(2):
        assert append(running, org, key, {"event_type": "two"}).status == 423
    refused = running.request("POST", "/v1/orgs", {"slug": "new"}, key=running.platform_key)
    assert (refused.status, problem_of(refused)) == (423, "org-frozen")
    assert append(running, other, other_key, {"event_type": "two"}).status == 201
    frozen = "SELECT o.slug FROM heads h JOIN orgs o ON o.id = h.org_id WHERE frozen_at IS NOT NULL"
    assert {row[0] for row in owner(running, frozen)} == {"system", org}
    running.stop()
    postgres_cluster.drop(database)
