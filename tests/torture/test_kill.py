"""kill -9 under load: of the server, of PostgreSQL, of both, and of signer and indexer, again and again.

Every acknowledged entry is stored once at its seq, keyed or not; no batch is half written;
no lock remains; the trail verifies, and so does its search index. `make torture CYCLES=…` runs more rounds.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from ledger.blocks.postings import RUN_ENTRIES
from ledger.core.org import OrgFacts
from ledger.core.verification.run import TrailRange, verify_trail
from ledger.sealing import index_key
from server.keys.first_start import load_master_key
from tests.support.appending import PATIENCE_S, rows_of, sound_trail
from tests.support.clusters import Database, OwnCluster, blocking
from tests.support.load import Load
from tests.support.quire_process import QuireProcess
from tests.support.serving import server_settings
from tests.support.waiting import until

CYCLES = 3
ACKNOWLEDGED_BETWEEN = 30
LONGEST_FUSE_S = 0.1

LEFT_BEHIND = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND usename = 'quire_server' AND state LIKE 'idle in trans%'"""
LOCKS = (
    "SELECT count(*) FROM pg_locks WHERE relation = 'heads'::regclass AND mode <> 'AccessShareLock'"
)

rounds = [
    pytest.param(CYCLES, id="in make test"),
    pytest.param(
        int(os.environ.get("TORTURE_CYCLES", "0")), id="torture", marks=pytest.mark.torture
    ),
]


def torture(
    cycles: int,
    server: QuireProcess,
    database: Callable[[], Database],
    strike: Callable[[], None],
) -> None:
    """Run load, and call `strike` at a random moment of each cycle; `strike` also repairs."""
    server.start()
    slug, key = server.create_org("sealed")
    with Load(server.url, slug, key).running() as load:
        for _ in range(cycles):
            load.wait_for(ACKNOWLEDGED_BETWEEN)
            time.sleep(random.uniform(0, LONGEST_FUSE_S))
            strike()
        load.wait_for(1)
    blocking(check(database(), server, slug, load))
    assert server.terminate() == 0


async def check(database: Database, server: QuireProcess, slug: str, load: Load) -> None:
    connection = await asyncpg.connect(database.superuser_url)
    try:
        org_id = await connection.fetchval("SELECT id FROM orgs WHERE slug = $1", slug)
        deadline = time.monotonic() + PATIENCE_S
        while await connection.fetchval(LOCKS) or await connection.fetchval(LEFT_BEHIND):
            assert time.monotonic() < deadline, "a lock or transaction is left behind"
            await asyncio.sleep(0.05)
    finally:
        await connection.close()
    org = OrgFacts(org_id, slug, True, b"")
    await sound_trail(database, org, server.keyring())
    load.ledger.check(await rows_of(database, org_id))
    await asyncio.to_thread(until, lambda: _is_indexed(server), "the index does not follow")
    result = await verify_trail(
        database.server_url, TrailRange(org_id, slug), server.keyring(), processes=1,
        index_key=index_key(load_master_key(server_settings(server.data_dir))),
    )  # fmt: skip
    assert result.valid, result.errors[:3]
    has_runs = result.total_entries >= RUN_ENTRIES
    assert result.checks.search_index == (True if has_runs else "not_checked"), result
    assert result.total_entries >= len(load.ledger.acknowledged)


def _is_indexed(server: QuireProcess) -> bool:
    return "\nquire_search_unindexed_entries 0.0\n" in server.metrics()


@pytest.fixture
def server_dir(session_dir: Path) -> Path:
    """The data directory of a server with a separate database."""
    return session_dir / uuid4().hex[:8]


@pytest.mark.parametrize("cycles", rounds)
def test_of_the_server(cycles: int, database: Database, server_dir: Path) -> None:
    server = QuireProcess(server_dir, database.server_url)

    def strike() -> None:
        server.kill()
        server.start()

    torture(cycles, server, lambda: database, strike)


@pytest.mark.parametrize("cycles", rounds)
def test_of_postgresql(cycles: int, own_cluster: OwnCluster, server_dir: Path) -> None:
    database = Database(
        "quire", own_cluster.owner_url, own_cluster.server_url, own_cluster.superuser_url
    )

    def strike() -> None:
        own_cluster.kill()
        own_cluster.start()

    torture(cycles, QuireProcess(server_dir, database.server_url), lambda: database, strike)


@pytest.mark.parametrize("cycles", rounds)
def test_of_both(cycles: int, data_dir: Path) -> None:
    server = QuireProcess(data_dir)

    def strike() -> None:
        victims = [server.process.pid, server.postmaster()]
        random.shuffle(victims)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        server.process.wait()
        server.start()

    torture(cycles, server, server.embedded, strike)


@pytest.mark.parametrize("cycles", rounds)
def test_of_the_signer_and_the_indexer(cycles: int, database: Database, server_dir: Path) -> None:
    server = QuireProcess(server_dir, database.server_url)

    def strike() -> None:
        followers = server.followers()
        if followers:  # each is started again, in its own time
            os.kill(random.choice(followers), signal.SIGKILL)

    torture(cycles, server, lambda: database, strike)
