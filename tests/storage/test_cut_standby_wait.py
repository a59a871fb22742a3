"""A COMMIT whose wait for a standby was cut is not acknowledged before a standby has it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from ledger.errors import DatabaseUnavailable
from tests.support.appending import new_org, process, sound_trail, until
from tests.support.clusters import Database, OwnCluster
from tests.support.signing import checkpointer

WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


async def test_a_cancelled_wait_is_no_acknowledgement(own_cluster: OwnCluster) -> None:
    operator = await asyncpg.connect(own_cluster.superuser_url)
    try:
        async with process(own_cluster.server_url) as one:
            org = await new_org(one.database)
            await one.append(org, b'{"n":0}')
            await operator.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            await operator.execute("SELECT pg_reload_conf()")
            while await operator.fetchval("SHOW synchronous_standby_names") != "nobody":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            append = one.append_in_task(org, b'{"n":1}')
            cut: set[int] = set()
            # The first wait is the append's; later ones are of the queries for its outcome.
            while len(cut) < 2:
                for row in await operator.fetch(WAITING):
                    cut.add(row["pid"])
                    await operator.fetchval("SELECT pg_cancel_backend($1)", row["pid"])
                await asyncio.sleep(0.01)
            assert not append.done()
            await operator.execute("ALTER SYSTEM RESET synchronous_standby_names")
            await operator.execute("SELECT pg_reload_conf()")
            await until(append.done, "the acknowledgement")
            assert (await append).receipts()[0].seq == 1
            urls = (own_cluster.owner_url, own_cluster.server_url, own_cluster.superuser_url)
            assert len(await sound_trail(Database("quire", *urls), org)) == 2
    finally:
        await operator.close()


async def test_a_cancelled_wait_is_no_signature(own_cluster: OwnCluster, tmp_path: Path) -> None:
    operator = await asyncpg.connect(own_cluster.superuser_url)
    try:
        async with process(own_cluster.server_url) as one:
            await one.append(await new_org(one.database), b'{"n":0}')
            async with checkpointer(own_cluster.server_url, tmp_path / "memory") as signer:
                await operator.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
                await operator.execute("SELECT pg_reload_conf()")
                while await operator.fetchval("SHOW synchronous_standby_names") != "nobody":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                signing = asyncio.create_task(signer.round())
                while not signing.done():
                    for row in await operator.fetch(WAITING):
                        await operator.fetchval("SELECT pg_cancel_backend($1)", row["pid"])
                    await asyncio.sleep(0.01)
                with pytest.raises(DatabaseUnavailable, match="COMMIT was answered with a warning"):
                    await signing
    finally:
        await operator.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await operator.execute("SELECT pg_reload_conf()")
        await operator.close()
