"""The pool on a database that allows fewer connections than the pool would open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ledger.core.sequencer import SequencerLimits
from ledger.errors import DatabaseUnavailable
from ledger.storage.database import CONNECT_TIMEOUT_S, explain
from ledger.storage.database import Database as Pool
from ledger.storage.lock_waits import GrowingIntervals
from ledger.storage.pool import HANDOVER_S
from tests.support.appending import new_org, process
from tests.support.clusters import OwnCluster


async def allow(cluster: OwnCluster, connections: int) -> None:
    connection = await asyncpg.connect(cluster.superuser_url)
    try:
        await connection.execute(f"ALTER ROLE quire_server CONNECTION LIMIT {connections}")
    finally:
        await connection.close()


@pytest.fixture
async def pool(own_cluster: OwnCluster) -> AsyncIterator[Pool]:
    opened = await Pool.open(own_cluster.server_url, size=10)
    yield opened
    await opened.close()


async def slow_reads(pool: Pool, count: int) -> set[int]:
    """Run slow reads at once, so that all connections are in use; returns the backends' ids."""
    rows = await asyncio.gather(
        *(pool.fetch("SELECT pg_backend_pid(), pg_sleep(0.01)") for _ in range(count))
    )
    return {row[0][0] for row in rows}


@pytest.mark.parametrize("allowed", [1, 3, 9])
async def test_callers_wait_for_the_existing_connections(
    own_cluster: OwnCluster, pool: Pool, allowed: int
) -> None:
    await allow(own_cluster, allowed)
    assert len(await slow_reads(pool, 100)) <= allowed
    await allow(own_cluster, -1)


async def test_refusals_are_few(own_cluster: OwnCluster, pool: Pool) -> None:
    """The pool retries to grow at growing intervals: few refused connections and few log lines."""
    await allow(own_cluster, 2)
    began = time.monotonic()
    for _ in range(10):
        await slow_reads(pool, 60)
    lasted = time.monotonic() - began
    log = "".join(path.read_text() for path in own_cluster.postgres.data.parent.rglob("*.log"))
    # Those opened before the first refusal was known, and one after each pause.
    assert log.count("too many connections for role") <= 10 + lasted / 0.25


async def test_a_raised_limit_is_used(own_cluster: OwnCluster, pool: Pool) -> None:
    await allow(own_cluster, 2)
    assert len(await slow_reads(pool, 40)) <= 2
    await allow(own_cluster, -1)
    deadline = time.monotonic() + 60
    while len(await slow_reads(pool, 40)) < 10:
        assert time.monotonic() < deadline, "the pool does not grow again"
        await asyncio.sleep(0.05)


async def test_never_more_than_its_size_and_all_come_back(pool: Pool) -> None:
    assert len(await slow_reads(pool, 200)) <= 10
    assert pool._pool.open_count <= 10
    assert not pool._pool._in_use


async def test_a_wait_is_bounded(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.storage.database.CONNECT_TIMEOUT_S", 0.5)
    async with asyncio.TaskGroup() as group:
        held = [group.create_task(pool.fetch("SELECT pg_sleep(3)")) for _ in range(10)]
        await asyncio.sleep(0.1)
        with pytest.raises(DatabaseUnavailable, match="all 10 connections are in use"):
            await pool.fetch("SELECT 1")
    assert all(task.done() for task in held)


async def test_a_cancelled_caller_keeps_no_connection(pool: Pool) -> None:
    for _ in range(5):
        tasks = [asyncio.create_task(pool.fetch("SELECT pg_sleep(0.05)")) for _ in range(30)]
        await asyncio.sleep(0.03)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not pool._pool._in_use
        assert not pool._pool._waiting
    assert len(await slow_reads(pool, 50)) <= 10


async def test_a_connection_in_an_open_transaction_is_not_handed_on(pool: Pool) -> None:
    async with pool.connection() as connection:
        await connection.execute("BEGIN")
    assert (await pool.fetch("SELECT pg_current_xact_id_if_assigned()"))[0][0] is None
    async with pool.connection() as connection:
        assert not connection.is_in_transaction()


async def test_a_busy_connection_is_not_handed_on(pool: Pool) -> None:
    """Every later user would be refused too: the pool gives out the last used connection first."""
    others: list[asyncio.Task[str]] = []

    async def two_at_once() -> None:
        async with pool.connection() as connection:
            others.append(asyncio.create_task(connection.execute("SELECT pg_sleep(60)")))
            await asyncio.sleep(0.1)
            await connection.fetch("SELECT 1")

    with pytest.raises(DatabaseUnavailable, match="another operation is in progress"):
        await two_at_once()
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await others[0]
    for _ in range(3):
        assert len(await pool.fetch("SELECT 1")) == 1


async def test_lost_connections_are_replaced(own_cluster: OwnCluster, pool: Pool) -> None:
    await slow_reads(pool, 30)
    killer = await asyncpg.connect(own_cluster.superuser_url)
    try:
        await killer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'quire_server'"
        )
    finally:
        await killer.close()
    deadline = time.monotonic() + 30
    while True:
        try:
            assert len(await slow_reads(pool, 30)) <= 10
        except DatabaseUnavailable:
            assert time.monotonic() < deadline
        else:
            return


async def test_appends_get_a_connection_although_reads_took_all(own_cluster: OwnCluster) -> None:
    """The connection that appends was lost, and reads use all allowed connections."""
    async with process(own_cluster.server_url, limits=SequencerLimits(retry_s=30)) as server:
        org = await new_org(server.database)
        await server.append(org, b"0")
        await allow(own_cluster, 5)
        await slow_reads(server.database, 60)
        killer = await asyncpg.connect(own_cluster.superuser_url)
        try:
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'quire append'"
            )
        finally:
            await killer.close()
        await allow(own_cluster, 4)
        await slow_reads(server.database, 60)
        await server.append(org, b"1")
        assert len(await slow_reads(server.database, 60)) >= 1


async def test_the_last_connection_is_given_up_for_a_moment_only(pool: Pool) -> None:
    await pool.fetch("SELECT 1")
    pool._pool.give_up_one()
    assert pool._pool.open_count == 0
    wait_s = pool._pool._grow_at - time.monotonic()
    assert wait_s <= HANDOVER_S < CONNECT_TIMEOUT_S, "other callers are served meanwhile"
    assert len(await pool.fetch("SELECT 1")) == 1


def test_a_lasting_refusal_is_reported_at_growing_intervals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("ledger.storage.lock_waits.time.monotonic", lambda: now[0])
    intervals, reported = GrowingIntervals(), []
    for second in range(200):
        now[0] = float(second)
        if intervals.due():
            reported.append(second)
    assert reported == [5, 10, 20, 40, 80, 160]


@pytest.mark.parametrize(
    ("error", "words"),
    [(TimeoutError(), "it did not answer in time"), (ConnectionError(), "the connection failed")],
)
def test_an_error_without_a_text_is_described_without_its_class(
    error: BaseException, words: str
) -> None:
    assert str(explain(error)) == f"the database can't do this now: {words}"
