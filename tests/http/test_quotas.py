"""A quota of an org: entries and bytes in a day, counted over all servers, and over restarts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ledger.core.org import OrgFacts, Quota
from ledger.rows import RowNotAuthentic
from ledger.sealing import row_key
from ledger.storage import quota_uses
from ledger.storage.database import Database as Pool
from ledger.storage.quota_uses import Amount
from server.access.limits.quotas import QuotaExceeded, Quotas
from tests.support.appending import MASTER_KEY, Process
from tests.support.serving import PeerAnswer, Server

KEY = row_key(MASTER_KEY)


@pytest.fixture
async def counted(org: OrgFacts) -> OrgFacts:
    return org._replace(quota=Quota(entries=1_000))


@pytest.fixture
async def accounts(first_process: Process, second_process: Process) -> list[Quotas]:
    """The accounts of two servers."""
    return [Quotas(one.database, KEY) for one in (first_process, second_process)]


async def used(pool: Pool, org: OrgFacts) -> Amount:
    row = await pool.fetchrow("SELECT * FROM quota_uses WHERE org_id = $1", org.id)
    return Amount(0, 0) if row is None else Amount(row["entries"], row["bytes"])


async def events(pool: Pool, org: OrgFacts) -> list[str]:
    query = "SELECT kind FROM security_events WHERE org_id = $1 ORDER BY id"
    return [row[0] for row in await pool.fetch(query, org.id)]


async def accepted(quotas: Quotas, org: OrgFacts, count: int, entries: int = 1) -> int:
    done = 0
    for _ in range(count):
        try:
            await quotas.take(org, entries, 10)
            done += entries
        except QuotaExceeded:
            await asyncio.sleep(0)
    return done


async def test_two_servers_together_never_exceed_a_quota(
    accounts: list[Quotas], counted: OrgFacts, first_process: Process
) -> None:
    done = await asyncio.gather(
        *(accepted(quotas, counted, 700) for quotas in accounts for _ in "ab")
    )
    # What one server took in advance, the other can't use.
    assert 1_000 - 2 * 1_000 // quota_uses.PARTS <= sum(done) <= 1_000
    assert await events(first_process.database, counted) == ["quota_nearly_used", "quota_used_up"]


async def test_one_server_uses_a_quota_exactly(
    accounts: list[Quotas], counted: OrgFacts, first_process: Process
) -> None:
    assert await accepted(accounts[0], counted, 1_100) == 1_000
    assert await accepted(accounts[1], counted, 1) == 0
    assert (await used(first_process.database, counted)).entries == 1_000


async def test_a_restart_forgets_nothing(
    counted: OrgFacts, first_process: Process, accounts: list[Quotas]
) -> None:
    done = 0
    for _ in range(20):
        done += await accepted(Quotas(first_process.database, KEY), counted, 30)
    assert done <= 600
    left = 1_000 - (await used(first_process.database, counted)).entries
    assert left >= 1_000 - done - 20 * 10
    assert await accepted(accounts[1], counted, 1_000) <= left


async def test_a_request_that_does_not_fit_leaves_room_for_a_smaller_one(
    accounts: list[Quotas], counted: OrgFacts
) -> None:
    assert await accepted(accounts[0], counted, 1, entries=1_001) == 0
    assert await accepted(accounts[0], counted, 1, entries=990) == 990
    assert await accepted(accounts[0], counted, 1, entries=11) == 0
    assert await accepted(accounts[0], counted, 1, entries=10) == 10


async def test_refused_bytes_count(
    accounts: list[Quotas], org: OrgFacts, first_process: Process
) -> None:
    counted = org._replace(quota=Quota(bytes=10_000))
    quotas = accounts[0]
    for _ in range(9):
        await quotas.require(counted)
        quotas.charge(counted, 1_200)
    with pytest.raises(QuotaExceeded, match="10,000 bytes a day"):
        await quotas.require(counted)
    assert (await used(first_process.database, counted)).bytes == 10_800
    with pytest.raises(QuotaExceeded):
        await quotas.take(counted, 1, 1)


async def test_a_day_ends_and_is_not_begun_twice(
    counted: OrgFacts, first_process: Process, accounts: list[Quotas]
) -> None:
    pool = first_process.database
    assert await accepted(accounts[0], counted, 1, entries=1_000) == 1_000
    for days, free in ((-1, 1_000), (1, 0)):
        row = await pool.fetchrow("SELECT * FROM quota_uses WHERE org_id = $1", counted.id)
        assert row is not None
        moved = await pool.fetchrow("SELECT $1::date + $2::integer", row["day"], days)
        assert moved is not None
        use = (counted.id, moved[0], 1_000, 0, 100)
        await pool.execute(quota_uses.SET_USE, *use, quota_uses.QUOTA_USES.mac(KEY, *use))
        assert await accepted(Quotas(pool, KEY), counted, 1, entries=1_000) == free
    assert (await events(pool, counted)).count("quota_used_up") == 2


async def test_a_changed_row_is_refused(
    counted: OrgFacts, first_process: Process, accounts: list[Quotas]
) -> None:
    await accounts[0].take(counted, 500, 0)
    await first_process.database.execute(
        "UPDATE quota_uses SET bytes = bytes + 1 WHERE org_id = $1", counted.id
    )
    with pytest.raises(RowNotAuthentic, match="quota_uses"):
        await accounts[1].take(counted, 600, 0)


async def test_an_org_without_a_quota_asks_for_nothing(
    org: OrgFacts, first_process: Process, accounts: list[Quotas]
) -> None:
    await accounts[0].take(org, 10**6, 10**9)
    accounts[0].charge(org, 10**9)
    await accounts[0].require(org)
    assert await used(first_process.database, org) == Amount(0, 0)


def set_quota(server: Server, key: str, org: str, **quota: int) -> PeerAnswer:
    return server.request("PATCH", f"/v1/orgs/{org}", quota, key=key)


def append(server: Server, org: str, key: str, body: Any) -> PeerAnswer:
    return server.request("POST", f"/v1/orgs/{org}/entries", body, key=key)


def test_the_platform_sets_a_quota_and_appends_are_refused_beyond_it(shared_server: Server) -> None:
    server = shared_server
    org, key = server.create_org()
    assert append(server, org, key, {"n": 0}).status == 201
    assert set_quota(server, key, org, entries_a_day=5).status == 403
    shown = set_quota(server, server.platform_key, org, entries_a_day=5).json()
    assert (shown["entries_a_day"], shown["bytes_a_day"]) == (5, None)
    assert [append(server, org, key, {"n": n}).status for n in range(5)] == [201] * 5
    refused = append(server, org, key, {"n": 6})
    assert refused.status == 429
    assert refused.json()["type"].endswith("/quota-exceeded")
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    kinds = server.request("GET", f"/v1/orgs/{org}/security-events", key=key).json()["events"]
    assert [one["kind"] for one in kinds] == ["quota_used_up", "quota_nearly_used"]
    other, its_key = server.create_org()
    assert append(server, other, its_key, {"n": 0}).status == 201
    assert set_quota(server, server.platform_key, org, entries_a_day=0).status == 200
    assert append(server, org, key, {"n": 7}).status == 201


def test_refused_bodies_use_the_quota_of_bytes(shared_server: Server) -> None:
    server = shared_server
    org, key = server.create_org()
    set_quota(server, server.platform_key, org, bytes_a_day=5_000)
    assert append(server, org, key, {"n": 0}).status == 201
    statuses = [append(server, org, key, b"[" * 1_000).status for _ in range(7)]
    assert statuses == [400] * 5 + [429] * 2
    assert append(server, org, key, {"n": 0}).status == 429


def test_a_replay_counts_once(shared_server: Server) -> None:
    server = shared_server
    org, key = server.create_org()
    set_quota(server, server.platform_key, org, entries_a_day=3)
    headers = {"idempotency-key": "once"}
    for _ in range(5):
        path = f"/v1/orgs/{org}/entries"
        assert server.request("POST", path, {"n": 0}, key=key, headers=headers).status == 201
    assert [append(server, org, key, {"n": n}).status for n in range(3)] == [201, 201, 429]
