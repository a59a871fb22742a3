"""Rows that the server's role or the owner changed, exchanged, copied or made up decide nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.support.clusters import Cluster, blocking
from tests.support.posting import problem_of
from tests.support.serving import PeerAnswer, Server, start_server
from tests.support.signed_trees import SignedTrees
from tests.support.waiting import until


@pytest.fixture
def server(postgres_cluster: Cluster, session_dir: Path) -> Iterator[Server]:
    """A server of its own: each test damages its rows."""
    database = postgres_cluster.migrated()
    running = start_server(database, session_dir / uuid4().hex[:8])
    running.org, running.admin_key = running.create_org()
    yield running
    running.stop()
    postgres_cluster.drop(database)


def run(server: Server, *statements: str, owner: bool = False) -> None:
    """Run statements as the server's role, or as the owner with triggers off."""

    async def execute() -> None:
        url = server.database.superuser_url if owner else server.database.server_url
        connection = await asyncpg.connect(url)
        try:
            if owner:
                await connection.execute("SET session_replication_role = replica")
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    blocking(execute())


def key_id(key: str) -> str:
    return key.split("_")[2]


def whoami(server: Server, key: str) -> PeerAnswer:
    return server.request("GET", "/v1/whoami", key=key)


def events_of(server: Server, org: str) -> list[str]:
    path = f"/v1/orgs/{org}/security-events"
    found = server.request("GET", path, key=server.platform_key).json()["events"]
    return [event["detail"] for event in found if event["kind"] == "row_not_authentic"]


CHANGES = {
    "the platform's": "org_id = NULL, role = 'platform'",
    "another role": "role = 'admin'",
    "another org": "org_id = (SELECT id FROM orgs WHERE slug = '{other}')",
    "a later end": "expires_at = expires_at + interval '1 year'",
    "no end": "expires_at = NULL",
    "other addresses": "allowed_cidrs = '0.0.0.0/0'",
    "another maker": "created_by = 'server'",
    "another age": "created_at = created_at + interval '1 day'",
    "another secret": "secret_hash = (SELECT secret_hash FROM api_keys WHERE role = 'platform')",
    "without its MAC": "mac = ''",
    "the MAC of another key": "mac = (SELECT mac FROM api_keys WHERE role = 'platform')",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_key_is_refused_and_reported(server: Server, change: str) -> None:
    other, _ = server.create_org()
    viewer = server.create_key(server.org, "viewer")
    changed = change.format(other=other)
    run(server, f"UPDATE api_keys SET {changed} WHERE id = '{key_id(viewer)}'")
    assert whoami(server, viewer).status == 401
    assert whoami(server, server.admin_key).status == 200
    reported = [
        *events_of(server, server.org),
        *events_of(server, other),
        *details(server),
    ]
    assert any(f"API key {key_id(viewer)}" in detail for detail in reported)


def details(server: Server) -> list[str]:
    """The details of all events in the database, those of no org too."""

    async def read() -> list[str]:
        connection = await asyncpg.connect(server.database.superuser_url)
        try:
            rows = await connection.fetch("SELECT detail FROM security_events")
            return [row[0] for row in rows]
        finally:
            await connection.close()

    found: list[str] = blocking(read())
    return found


def test_a_revoked_key_is_not_valid_again_without_its_revocation(server: Server) -> None:
    viewer = server.create_key(server.org, "viewer")
    path = f"/v1/orgs/{server.org}/keys/{key_id(viewer)}"
    assert server.request("DELETE", path, key=server.admin_key).status == 204
    run(server, f"UPDATE api_keys SET revoked_at = NULL WHERE id = '{key_id(viewer)}'")
    assert whoami(server, viewer).status == 401
    listed = server.request("GET", f"/v1/orgs/{server.org}/keys", key=server.admin_key).json()
    authentic = {key["id"]: key["authentic"] for key in listed["keys"]}
    assert authentic == {key_id(viewer): False, key_id(server.admin_key): True}


def test_a_key_made_in_the_database_is_refused(server: Server) -> None:
    planted, secret = token_hex(8), token_hex(24)
    run(
        server,
        "INSERT INTO api_keys (id, name, role, secret_hash, created_at, created_by, allowed_cidrs, mac) "
        f"SELECT '{planted}', 'mine', 'platform', secret_hash, now(), 'server', '', mac "
        "FROM api_keys LIMIT 1",
    )
    assert whoami(server, f"quire_live_{planted}_{secret}").status == 401


EXCHANGE = """
WITH gone AS (DELETE FROM subjects WHERE org_id = {org} RETURNING *)
INSERT INTO subjects (org_id, lookup, ref, wrapped_key, name)
SELECT one.org_id, {lookup}, {ref}, {wrapped_key}, {name}
FROM gone AS one JOIN gone AS other ON other.ref <> one.ref"""
OWN = {
    "lookup": "one.lookup",
    "ref": "one.ref",
    "wrapped_key": "one.wrapped_key",
    "name": "one.name",
}


@pytest.mark.parametrize("column", OWN)
def test_exchanged_persons_are_neither_erased_nor_opened(server: Server, column: str) -> None:
    path = f"/v1/orgs/{server.org}"
    for name in ("anna", "bert"):
        sent = {"subject": name, "secret": name}
        made = server.request("POST", f"{path}/entries", sent, key=server.admin_key)
        assert made.status == 201
    columns = {**OWN, column: f"other.{column}"}
    org = f"(SELECT id FROM orgs WHERE slug = '{server.org}')"
    run(server, EXCHANGE.format(org=org, **columns))  # with the rights of the server's role
    asked = {"subject": "anna"}
    answer = server.request("POST", f"{path}/erasures", asked, key=server.admin_key)
    assert (answer.status, problem_of(answer)) == (500, "row-not-authentic")
    until(lambda: events_of(server, server.org), "no event")


def keyed(server: Server, org: str, key: str, body: Any, name: str) -> PeerAnswer:
    path, headers = f"/v1/orgs/{org}/entries", {"idempotency-key": name}
    return server.request("POST", path, body, key=key, headers=headers)


def test_a_use_copied_from_another_org_acknowledges_nothing(server: Server) -> None:
    other, key = server.create_org("plain")
    victim, victim_key = server.create_org("plain")
    body, name = {"event_type": "wire.transfer"}, "transfer-1"
    assert keyed(server, victim, victim_key, {"event_type": "genesis"}, "first").status == 201
    assert keyed(server, other, key, body, name).status == 201
    run(
        server,
        "INSERT INTO idempotency (day, org_id, key, body, first_seq, count, seqs, anchored_at, "
        "first_hash, mac) SELECT i.day, v.id, i.key, i.body, i.first_seq, i.count, i.seqs, "
        "i.anchored_at, i.first_hash, i.mac FROM idempotency i JOIN orgs o ON o.id = i.org_id, orgs v "
        f"WHERE o.slug = '{other}' AND v.slug = '{victim}'",
    )
    answer = keyed(server, victim, victim_key, body, name)
    assert answer.status == 201
    assert "idempotency-replayed" not in answer.headers
    assert answer.json()["seq"] == 1


COLUMNS = {
    "body": "body = decode(repeat('00', 16), 'hex')",
    "first_seq": "first_seq = first_seq + 1",
    "count": "count = count + 1",
    "seqs": "seqs = ARRAY[0]",
    "anchored_at": "anchored_at = anchored_at + interval '1 microsecond'",
    "first_hash": "first_hash = decode(repeat('00', 32), 'hex')",
    "mac": "mac = ''",
}


@pytest.mark.parametrize("change", COLUMNS.values(), ids=COLUMNS.keys())
def test_a_changed_use_is_refused_and_nothing_else_is(server: Server, change: str) -> None:
    org, key = server.create_org("plain")
    for name in ("one", "two"):
        assert keyed(server, org, key, {"event_type": name}, name).status == 201
    where = f"org_id = (SELECT id FROM orgs WHERE slug = '{org}') AND first_seq = 0"
    run(server, f"UPDATE idempotency SET {change} WHERE {where}", owner=True)
    answer = keyed(server, org, key, {"event_type": "one"}, "one")
    assert (answer.status, problem_of(answer)) == (500, "row-not-authentic")
    again = keyed(server, org, key, {"event_type": "two"}, "two")
    assert (again.status, again.json()["seq"]) == (201, 1)
    until(lambda: events_of(server, org), "no event")


def test_equal_keys_of_two_orgs_can_not_be_recognised(server: Server) -> None:
    for _ in range(2):
        org, key = server.create_org("plain")
        assert keyed(server, org, key, {"event_type": "same"}, "same").status == 201

    async def distinct() -> int:
        connection = await asyncpg.connect(server.database.superuser_url)
        try:
            counted: int = await connection.fetchval("SELECT count(DISTINCT key) FROM idempotency")
            return counted
        finally:
            await connection.close()

    assert blocking(distinct()) == 2


def test_rows_of_log_keys_that_do_not_continue_the_history_stop_nothing(server: Server) -> None:
    """Attack A3 g: one planted row stopped `/v1/log/keys` and all bundles of all tenants."""
    signed = SignedTrees(server)
    path = f"/v1/orgs/{server.org}"
    made = server.request("POST", f"{path}/entries", {"event_type": "one"}, key=server.admin_key)
    assert made.status == 201
    signed.sign()
    signed.anchor()
    before = server.request("GET", "/v1/log/keys")
    assert before.status == 200
    run(server, "INSERT INTO log_keys (position, statement) VALUES (1, 'x'), (-1, '')", owner=True)
    again = server.request("GET", "/v1/log/keys")
    assert (again.status, again.body) == (200, before.body)
    asked = {"from_seq": 0, "to_seq": 0}
    bundle = server.request("POST", f"{path}/bundles", asked, key=server.admin_key)
    assert bundle.status == 200, bundle.body
    signed.sign()  # publishes the history, as a signer that begins
    until(lambda: any("log_keys" in detail for detail in details(server)), "no event")
    job = server.request("POST", f"{path}/verifications?wait=60", {}, key=server.admin_key).json()
    assert job["result"]["checks"]["rows"] is False
    assert {fault["kind"] for fault in job["result"]["errors"]} == {"row_not_authentic"}
    after = server.request("POST", f"{path}/entries", {"event_type": "two"}, key=server.admin_key)
    assert after.status == 201  # it froze nothing
    assert events_of(server, server.org)


def test_an_org_whose_sealing_was_switched_off_is_found(server: Server) -> None:
    """Attack A3 b: an entry in clear, in a trail whose first entries are sealed.

    The register refuses the changed row, so a deceived server is made up.
    """
    org, key = server.create_org("sealed")
    path = f"/v1/orgs/{org}"
    body = {"event_type": "note", "subject": "dora"}
    assert server.request("POST", f"{path}/entries", body, key=key).status == 201
    assert server.services is not None
    known = server.services.directory._orgs
    sealing = known.get(org)
    assert sealing is not None
    known.put(org, sealing._replace(seals=False))
    assert server.request("POST", f"{path}/entries", body, key=key).status == 201
    known.put(org, sealing)
    job = server.request("POST", f"{path}/verifications?wait=60", {}, key=key).json()
    faults = [(fault["seq"], fault["kind"]) for fault in job["result"]["errors"]]
    assert faults == [(1, "unsealed")]
