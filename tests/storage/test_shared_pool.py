"""Orgs share the connections of the pool: no kind of work, and no org, keeps others from theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from ledger.errors import DatabaseUnavailable, QueueFull
from ledger.storage.asking import STRANGERS, Work, asking
from ledger.storage.database import Database as Pool
from tests.support.clusters import Database, OwnCluster
from tests.support.waiting import PATIENCE_S

LOCK = 15_003


@pytest.fixture
async def pool(shared_database: Database) -> AsyncIterator[Pool]:
    opened = await Pool.open(shared_database.server_url, size=4)
    yield opened
    await opened.close()


@pytest.fixture
async def held(shared_database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A connection with a lock, for which all slow work waits."""
    connection = await asyncpg.connect(shared_database.superuser_url)
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
    yield connection
    await connection.close()


async def slow(pool: Pool, work: Work, owner: str, *, refusable: bool = True) -> None:
    with asking(work, owner, refusable=refusable):
        await pool.execute(
            f"SELECT pg_advisory_lock_shared({LOCK}), pg_advisory_unlock_shared({LOCK})"
        )


async def quick(pool: Pool, work: Work, owner: str) -> None:
    with asking(work, owner):
        async with asyncio.timeout(PATIENCE_S):
            await pool.fetch("SELECT 1")


async def started(pool: Pool, tasks: Sequence[asyncio.Task[None]], waiting: int) -> None:
    """Wait until all tasks hold a place or wait."""
    async with asyncio.timeout(PATIENCE_S):
        while pool.turns.waiting < waiting or not pool.turns.held:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert not any(task.done() for task in tasks)


async def test_searches_of_one_org_hold_up_nobody_else(
    pool: Pool, held: asyncpg.Connection
) -> None:
    tasks = [asyncio.create_task(slow(pool, Work.SEARCH, "busy")) for _ in range(50)]
    await started(pool, tasks, 49)
    await quick(pool, Work.READ, "busy")
    await quick(pool, Work.READ, "other")
    await quick(pool, Work.VITAL, "other")
    await quick(pool, Work.VITAL, STRANGERS)
    assert not any(task.done() for task in tasks)
    await held.execute("SELECT pg_advisory_unlock($1)", LOCK)
    await asyncio.gather(*tasks)


async def test_guessed_keys_hold_up_no_known_caller(pool: Pool, held: asyncpg.Connection) -> None:
    tasks = [asyncio.create_task(slow(pool, Work.VITAL, STRANGERS)) for _ in range(50)]
    await started(pool, tasks, 49)
    await quick(pool, Work.VITAL, "known")
    await quick(pool, Work.READ, "known")
    await held.execute("SELECT pg_advisory_unlock($1)", LOCK)
    await asyncio.gather(*tasks)


async def test_too_many_of_one_org_are_refused(
    pool: Pool, held: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.turns, "_of_org", 3)
    tasks = [asyncio.create_task(slow(pool, Work.SEARCH, "busy")) for _ in range(4)]
    await started(pool, tasks, 3)
    with pytest.raises(QueueFull, match="too many requests of this org"):
        await quick(pool, Work.SEARCH, "busy")
    writes = asyncio.create_task(slow(pool, Work.SEARCH, "busy", refusable=False))
    other = asyncio.create_task(slow(pool, Work.SEARCH, "other"))
    await started(pool, [*tasks, writes, other], 5)
    await held.execute("SELECT pg_advisory_unlock($1)", LOCK)
    await asyncio.gather(*tasks, writes, other)


async def test_a_turn_that_does_not_come_in_time_is_refused_with_what_to_do(
    pool: Pool, held: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = asyncio.create_task(slow(pool, Work.SEARCH, "busy"))
    await started(pool, [task], 0)
    monkeypatch.setattr("ledger.storage.database.CONNECT_TIMEOUT_S", 0.01)
    with pytest.raises(QueueFull, match="send fewer at a time") as refused:
        await quick(pool, Work.SEARCH, "busy")
    assert (refused.value.retry_after, refused.value.everyone) == (2, False)
    with pytest.raises(DatabaseUnavailable):  # a request that began to write is not refused so
        await slow(pool, Work.SEARCH, "busy", refusable=False)
    await held.execute("SELECT pg_advisory_unlock($1)", LOCK)
    await task


async def test_cancelled_callers_leave_no_places(pool: Pool, held: asyncpg.Connection) -> None:
    tasks = [asyncio.create_task(slow(pool, Work.READ, "busy")) for _ in range(20)]
    await started(pool, tasks, 18)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (pool.turns.held, pool.turns.waiting) == (0, 0)
    await quick(pool, Work.READ, "busy")


async def test_where_the_database_allows_few_connections_vital_work_is_next(
    own_cluster: OwnCluster,
) -> None:
    connection = await asyncpg.connect(own_cluster.superuser_url)
    pool = await Pool.open(own_cluster.server_url, size=10)
    try:
        await connection.execute("ALTER ROLE quire_server CONNECTION LIMIT 2")
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        owners = [f"org {number}" for number in range(4)]
        tasks = [asyncio.create_task(slow(pool, Work.SEARCH, owner)) for owner in owners]
        async with asyncio.timeout(PATIENCE_S):
            while not pool._pool._refusal:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        order = list[str]()

        async def next_one(work: Work) -> None:
            await quick(pool, work, "other")
            order.append(work)

        reads = [asyncio.create_task(next_one(Work.READ)) for _ in range(3)]
        await asyncio.sleep(0)
        reads.append(asyncio.create_task(next_one(Work.VITAL)))
        await asyncio.sleep(0)
        await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)
        await asyncio.gather(*tasks, *reads)
        assert Work.VITAL in order[:2]  # two connections are free at once
    finally:
        await pool.close()
        await connection.execute("ALTER ROLE quire_server CONNECTION LIMIT -1")
        await connection.close()
