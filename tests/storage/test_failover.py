"""With several hosts in the URL the primary is found, also after a failover."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ledger.core.org import OrgFacts
from ledger.core.sequencer import KeyDigest, SequencerLimits
from ledger.errors import DatabaseUnavailable, OutcomeUnknown
from ledger.storage.database import Database as Pool
from tests.support.appending import (
    PATIENCE_S,
    new_org,
    process,
    rows_of,
    sound_trail,
    superuser,
    until,
)
from tests.support.clusters import Database, OwnCluster
from tests.support.standby import Standby

CLIENTS = 8
KEY = KeyDigest(b"k" * 16, b"b" * 16)


@pytest.fixture
async def standby(own_cluster: OwnCluster) -> AsyncIterator[Standby]:
    """A synchronous standby of `own_cluster`."""
    standby = Standby(own_cluster)
    await standby.start()
    yield standby
    standby.stop()


def url(*ports: int) -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://quire_server@{hosts}/quire?target_session_attrs=primary"


async def test_appends_go_on_at_the_promoted_standby(
    own_cluster: OwnCluster, standby: Standby
) -> None:
    limits = SequencerLimits(retry_s=PATIENCE_S)
    # The standby is named first: a host that takes no writes is passed over.
    async with process(url(standby.port, own_cluster.port), limits=limits) as one:
        org = await new_org(one.database)
        acknowledged: dict[bytes, int] = {}
        stop = asyncio.Event()

        async def client(name: int) -> None:
            number = 0
            while not stop.is_set():
                payload = b"%d-%d" % (name, number)
                appended = await one.append(org, payload)
                acknowledged[payload] = appended.receipts()[0].seq
                number += 1

        clients = [asyncio.create_task(client(name)) for name in range(CLIENTS)]
        await until(lambda: len(acknowledged) > 200, "appends at the primary")
        await asyncio.to_thread(own_cluster.kill)
        # Between the two primaries there is none, and outcomes are unknown.
        before = len(acknowledged)
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in clients)
        await standby.promote()
        await until(lambda: len(acknowledged) > before + 200, "appends at the new primary")
        stop.set()
        await asyncio.gather(*clients)
    payloads = await sound_trail(standby.database, org)
    assert len(payloads) == len(acknowledged)
    assert all(payloads[seq] == payload for payload, seq in acknowledged.items())
    # The dead host first, and no standby to pass over.
    async with process(url(own_cluster.port, standby.port)) as one:
        await one.append(org, b"after")


async def test_hosts_that_are_no_primary_are_unavailable(standby: Standby) -> None:
    with pytest.raises(DatabaseUnavailable):
        await Pool.open(url(standby.port))
    with pytest.raises(DatabaseUnavailable):
        await Pool.open(url(1, standby.port))


async def test_an_entry_no_standby_has_is_not_acknowledged(
    own_cluster: OwnCluster, standby: Standby
) -> None:
    """A COMMIT that is cut while it waits for the standby is nevertheless visible at the primary."""
    hosts = url(own_cluster.port, standby.port)
    async with process(hosts) as one, process(hosts) as two:
        org = await new_org(one.database)
        await one.append(org, b"a")
        with standby.asleep():
            appending = one.append_in_task(org, b"b", idempotency=KEY)
            await cut_waiting(own_cluster)
            await visible(own_cluster, org, 2)
            done, _ = await asyncio.wait([appending], timeout=1)
            assert not done, "acknowledged while it is on one machine only"
            await one.sequencer.close(0.1)
            with pytest.raises(OutcomeUnknown):
                await appending
            # A retry does not get the visible entry as its answer either.
            retrying = two.append_in_task(org, b"b", idempotency=KEY)
            done, _ = await asyncio.wait([retrying], timeout=1)
            assert not done, "a replay answered with what is on one machine only"
        async with asyncio.timeout(PATIENCE_S):
            assert (await retrying).replayed
        assert len(await rows_of(standby.database, org.id)) == 2
        assert await sound_trail(primary(own_cluster), org) == [b"a", b"b"]


async def cut_waiting(cluster: OwnCluster) -> None:
    """Wait for a backend that waits for the standby, and cut its wait."""
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    async with asyncio.timeout(PATIENCE_S), superuser(primary(cluster)) as operator:
        while not await operator.fetch(cut):  # noqa: ASYNC110 - PostgreSQL can only be polled
            await asyncio.sleep(0.02)


async def visible(cluster: OwnCluster, org: OrgFacts, entries: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(await rows_of(primary(cluster), org.id)) < entries:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.02)


def primary(cluster: OwnCluster) -> Database:
    return Database("quire", cluster.owner_url, cluster.server_url, cluster.superuser_url)
