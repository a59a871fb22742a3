"""A URL of several hosts: the primary is found, and found again after a failover."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ledger.core.sequencer import Limits
from ledger.errors import DatabaseUnavailable
from ledger.storage.database import Database as Pool
from tests.support.appending import PATIENCE_S, new_org, process, sound_trail, until
from tests.support.clusters import OwnCluster
from tests.support.standby import Standby

CLIENTS = 8


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
    limits = Limits(retry_s=PATIENCE_S)
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
        # Between the two there is no primary at all, and outcomes are unknown.
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
