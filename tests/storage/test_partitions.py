"""Partitions are created and dropped without blocking readers or appends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg

from ledger.core.sequencer import KeyDigest, SequencerLimits
from ledger.storage import partitions
from tests.support import blocks
from tests.support.appending import (
    PATIENCE_S,
    new_org,
    process,
    sound_trail,
    superuser,
    system_clock_us,
)
from tests.support.clusters import Database


@asynccontextmanager
async def long_reader(database: Database) -> AsyncIterator[None]:
    """Read the whole trail in one snapshot while the block runs, as a verification does."""
    connection = await asyncpg.connect(database.server_url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await blocks.stored_of_all(connection)
            yield
    finally:
        await connection.close()


async def test_a_long_reader_holds_up_no_partition_and_no_append(database: Database) -> None:
    ahead_us = 400 * 86_400 * 1_000_000
    async with (
        process(database.server_url) as now,
        process(database.server_url, clock=lambda: system_clock_us() + ahead_us) as ahead,
    ):
        org, other = await new_org(now.database), await new_org(now.database)
        await now.append(org, b"a")
        async with long_reader(database), asyncio.timeout(PATIENCE_S):
            await partitions.prepare(now.database, datetime.now(UTC) + timedelta(days=200))
            await partitions.retire(database.retention_url, datetime.now(UTC), 7)
            await ahead.append(other, b"in a month without partition")
            await now.append(org, b"b")
        assert await sound_trail(database, org) == [b"a", b"b"]


async def test_many_processes_create_the_same_partitions_at_once(database: Database) -> None:
    moment = datetime.now(UTC).replace(day=5) + timedelta(days=400)
    async with process(database.server_url) as one, process(database.server_url) as two:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(
                *(
                    partitions.prepare(each.database, moment)
                    for _ in range(8)
                    for each in (one, two)
                )
            )
        async with superuser(database) as connection:
            names = await blocks.partitions(connection)
    ahead = [moment + relative for relative in (timedelta(days=31 * n) for n in range(4))]
    months = [blocks.partition(month.year, month.month) for month in ahead]
    assert [name for name in names if name >= months[0]] == months


async def test_dropping_old_keys_waits_for_no_more_than_a_transaction(database: Database) -> None:
    async with process(database.server_url, limits=SequencerLimits(committers=2)) as one:
        org = await new_org(one.database)
        old = datetime.now(UTC) - timedelta(days=30)
        await partitions.create_for(one.database, [old])

        async def load() -> None:
            for number in range(50):
                key = KeyDigest(b"%016d" % number, bytes(16))
                await one.append(org, b"%d" % number, idempotency=key)

        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(
                load(),
                *(
                    partitions.retire(database.retention_url, datetime.now(UTC), 7)
                    for _ in range(3)
                ),
            )
        async with superuser(database) as connection:
            name = f"idempotency_{old:%Y_%m_%d}"
            assert await connection.fetchval("SELECT to_regclass($1)", name) is None
        assert len(await sound_trail(database, org)) == 50
