"""Entries that wait too long for a checkpoint raise an alarm; then their org takes no more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from ledger.sealing import row_key
from ledger.storage import accepted_doubts
from ledger.storage.trail import AppendTransaction
from server.trails.signed.lateness import SigningLate, SigningWatch
from tests.support.appending import MASTER_KEY, Process, new_org, process
from tests.support.clusters import Database
from tests.support.serving import PeerAnswer, Server, server_settings
from tests.support.signed_trees import SignedTrees
from tests.support.signing import checkpointer, fetch
from tests.support.waiting import until

EVENTS = "SELECT org_id, detail FROM security_events WHERE kind = 'signing_late' ORDER BY id"
ROW_KEY = row_key(MASTER_KEY)
LIMITS: dict[str, Any] = {
    "checkpoint_seconds": 1.0,
    "unsigned_event_seconds": 59.0,
    "unsigned_limit_seconds": 899.0,
}


def append(server: Server) -> PeerAnswer:
    path = f"/v1/orgs/{server.org}/entries"
    return server.request("POST", path, {"event_type": "x"}, key=server.admin_key)


def test_an_unsigned_org_is_reported_then_refused_until_it_is_signed(
    start_servers: Callable[..., Server],
) -> None:
    server = start_servers(
        checkpoint_seconds=0.05, unsigned_event_seconds=0.2, unsigned_limit_seconds=0.5
    )
    server.org, server.admin_key = server.create_org("plain")
    assert append(server).status == 201
    until(lambda: append(server).status == 503, "appends go on")
    refused = append(server)
    assert refused.json()["type"].endswith("signing-late")
    assert int(refused.headers["retry-after"]) > 0
    until(lambda: server.request("GET", "/readyz").status == 503, "ready though nothing is signed")
    assert server.readiness().json()["signing"] == "nothing is signed"
    path = f"/v1/orgs/{server.org}/security-events"
    events = server.request("GET", path, key=server.admin_key).json()
    assert [one["kind"] for one in events["events"]].count("signing_late") == 1
    signed = SignedTrees(server)
    signed.sign()
    until(lambda: append(server).status == 201, "still refused")
    signed.sign()
    until(lambda: server.request("GET", "/readyz").status == 200, "not ready")


class Minutes:
    """A clock that a test sets, in minutes."""

    now = 0.0

    def __call__(self) -> float:
        return self.now * 60


async def test_one_event_for_each_org_and_episode(database: Database, tmp_path: Any) -> None:
    clock = Minutes()
    async with process(database.server_url) as server:
        orgs = [await new_org(server.database) for _ in range(2)]
        watches = [
            SigningWatch(server_settings(tmp_path, **LIMITS), server.database, ROW_KEY, clock)
            for _ in range(2)  # as in two workers
        ]
        for episode in range(1, 3):
            await _an_episode(server, orgs[0], watches, clock)
            assert [row[0] for row in await fetch(database, EVENTS)] == [orgs[0].id] * episode
            async with checkpointer(database.server_url, tmp_path / "memory") as signer:
                assert (await signer.round()).checkpoints >= 1
            for watch in watches:
                await watch.poll()
                watch.require_signed(orgs[0])
                assert not watch.stands_still


async def _an_episode(
    server: Process, org: Any, watches: list[SigningWatch], clock: Minutes
) -> None:
    began = clock.now
    await server.append(org, b"x")
    for minutes in (0, 0.9, 1.1, 2, 15.1):
        clock.now = began + minutes
        for watch in watches:
            await watch.poll()
            assert refuses(watch, org) == (minutes == 15.1)
            assert watch.stands_still == (minutes == 15.1)
        await server.append(org, b"more")
    clock.now += 1


def refuses(watch: SigningWatch, org: Any) -> bool:
    try:
        watch.require_signed(org)
    except SigningLate:
        return True
    return False


async def test_one_org_that_is_not_signed_leaves_the_server_ready(
    database: Database, tmp_path: Any
) -> None:
    """The signer works, and has stopped one org only."""
    clock = Minutes()
    async with process(database.server_url) as server:
        stopped, other = [await new_org(server.database) for _ in range(2)]
        watch = SigningWatch(server_settings(tmp_path, **LIMITS), server.database, ROW_KEY, clock)
        async with checkpointer(database.server_url, tmp_path / "memory") as signer:
            await signer.round()
            await server.append(stopped, b"x")
            await fetch(
                database,
                "UPDATE trees SET stopped_at = 'infinity', stopped_reason = 'x' WHERE org_id = $1",
                stopped.id,
            )
            for _ in range(20):
                await watch.poll()
                clock.now += 1
        assert refuses(watch, stopped)
        assert not refuses(watch, other)
        assert not watch.stands_still


async def test_freezing_by_the_row_does_not_reset_the_wait(
    database: Database, tmp_path: Any
) -> None:
    """The server's role may freeze and thaw rows: that hides no unsigned entry."""
    clock = Minutes()
    frozen = "UPDATE heads SET frozen_reason = $2, frozen_at = now() WHERE org_id = $1"
    async with process(database.server_url) as server:
        org = await new_org(server.database)
        watch = SigningWatch(server_settings(tmp_path, **LIMITS), server.database, ROW_KEY, clock)
        await server.append(org, b"x")
        for minute in range(17):
            clock.now = minute
            await server.database.execute(frozen, org.id, "x" if minute % 2 else None)
            await watch.poll()
            assert not (minute % 2 and refuses(watch, org)), "a frozen org says that it is frozen"
        assert refuses(watch, org)
    assert len(await fetch(database, EVENTS)) == 1


async def test_where_another_server_signs_nothing_is_watched(
    database: Database, tmp_path: Any
) -> None:
    async with process(database.server_url) as server:
        settings = server_settings(tmp_path, checkpoints=False)
        await SigningWatch(settings, server.database, ROW_KEY).watch()


async def test_a_head_that_is_set_back_hides_no_entry(database: Database, tmp_path: Any) -> None:
    """The server's role can hide entries from the signer, but not from who acknowledged them."""
    clock = Minutes()
    async with process(database.server_url) as first:
        watch = SigningWatch(server_settings(tmp_path, **LIMITS), first.database, ROW_KEY, clock)
        org = await new_org(first.database)
    async with process(database.server_url, on_head=watch.acknowledged) as server:
        watch._database = server.database
        await server.append(org, b"x")
        await server.database.execute(
            "UPDATE heads SET seq = -1, entry_hash = '' WHERE org_id = $1", org.id
        )
        for minute in range(17):
            clock.now = minute
            await watch.poll()
        assert refuses(watch, org)
        assert watch.stands_still
        assert len(await fetch(database, EVENTS)) == 1


async def test_a_restart_makes_no_wait_shorter(database: Database, tmp_path: Any) -> None:
    """The wait counts from the time of the entries, once they were seen unsigned for a while."""
    clock = Minutes()
    long_ago_us = 1_000_000 * (int(time.time()) - 3_600)
    async with process(database.server_url, clock=lambda: long_ago_us) as server:
        org = await new_org(server.database)
        await server.append(org, b"x")
        watch = SigningWatch(server_settings(tmp_path, **LIMITS), server.database, ROW_KEY, clock)
        for minutes in (0, 0.4, 0.6):
            clock.now = minutes
            await watch.poll()
            assert refuses(watch, org) == (minutes == 0.6), "the signer has time to start"
            assert watch.stands_still == (minutes == 0.6)
        assert len(await fetch(database, EVENTS)) == 1


async def stopped(database: Database, org: Any, kind: str) -> None:
    await fetch(
        database,
        "INSERT INTO trees (org_id, root, stopped_at, stopped_reason) VALUES ($1, '', now(), $2) "
        "ON CONFLICT (org_id) DO UPDATE SET stopped_reason = excluded.stopped_reason",
        org.id,
        f"{kind}: entry 0",
    )


async def accept(server: Process, org: Any) -> None:
    async with server.database.transaction() as connection:
        await accepted_doubts.accept(AppendTransaction(connection), org.id, "key", ROW_KEY)


async def test_what_an_operator_accepted_takes_appends(database: Database, tmp_path: Any) -> None:
    """Only that doubt, and only by a row that this server wrote."""
    clock = Minutes()
    planted = (
        "INSERT INTO accepted_doubts (org_id, size, kind, accepted_at, key_id, mac) "
        "VALUES ($1, 0, 'hash_mismatch', now(), 'key', decode(repeat('00', 32), 'hex'))"
    )
    async with process(database.server_url) as server:
        org, other = [await new_org(server.database) for _ in range(2)]
        watch = SigningWatch(server_settings(tmp_path, **LIMITS), server.database, ROW_KEY, clock)
        for one in (org, other):
            await server.append(one, b"x")
            await stopped(database, one, "hash_mismatch")
            await server.database.execute(planted, one.id)
        for minute in range(17):
            clock.now = minute
            await watch.poll()
        assert refuses(watch, org), "a planted row lets nothing in"
        await accept(server, org)
        await watch.poll()
        assert not refuses(watch, org)
        assert refuses(watch, other)
        assert not watch.stands_still
        await stopped(database, org, "link_broken")
        await watch.poll()
        assert refuses(watch, org), "another doubt"
    assert len(await fetch(database, EVENTS)) == 2


async def test_the_refusal_names_the_doubt_and_the_way_out(
    database: Database, tmp_path: Any
) -> None:
    clock = Minutes()
    async with process(database.server_url) as server:
        org = await new_org(server.database)
        await server.append(org, b"x")
        await stopped(database, org, "unknown_key")
        watch = SigningWatch(server_settings(tmp_path, **LIMITS), server.database, ROW_KEY, clock)
        for minute in range(17):
            clock.now = minute
            await watch.poll()
        with pytest.raises(
            SigningLate, match=r"stopped this org \(unknown_key\).*or thaws the org"
        ):
            watch.require_signed(org)
