"""Poolers before the database: session pooling works, other modes are refused at the start."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from ledger.errors import DatabaseUnfit
from ledger.storage import pooler
from ledger.storage.migrate import migrate
from ledger.storage.pooler import require_sessions
from tests.support.clusters import Database, OwnCluster, blocking
from tests.support.pgbouncer import pgbouncer
from tests.support.quire_process import QuireProcess
from tests.support.rings import slow

SETTING = "QUIRE_DATABASE_URL"
NO_SESSIONS = rf"{SETTING} leads to a pooler .* set {SETTING} to the address of PostgreSQL itself"
MODES = [
    ("transaction", {}),
    slow("transaction", {"server_round_robin": "1"}),
    slow("transaction", {"default_pool_size": "1"}),
    ("statement", {}),
    ("session", {"server_reset_query": ""}),
]


async def locks(cluster: OwnCluster) -> int:
    connection = await asyncpg.connect(cluster.superuser_url)
    try:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        )
        return count
    finally:
        await connection.close()


@pytest.mark.parametrize(("mode", "options"), MODES)
async def test_a_pooler_without_sessions_is_refused(
    own_cluster: OwnCluster, mode: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooler, "_ANSWER_S", 1.0)  # shorter, as the reply never comes
    monkeypatch.setattr(pooler, "_FREED_S", 1.0)
    with pgbouncer(own_cluster, mode, **options) as pooled:
        for _ in range(2):  # also if the pooler already has server connections
            with pytest.raises(DatabaseUnfit, match=NO_SESSIONS):
                await require_sessions(pooled.server_url, SETTING)
        with pytest.raises(DatabaseUnfit, match="QUIRE_DATABASE_OWNER_URL leads to a pooler"):
            await migrate(pooled.owner_url)
    assert await migrate(own_cluster.owner_url) == []


async def test_sessions_are_let_through(own_cluster: OwnCluster) -> None:
    await require_sessions(own_cluster.server_url, SETTING)
    with pgbouncer(own_cluster, "session") as pooled:
        for _ in range(3):
            await require_sessions(pooled.server_url, SETTING)
        assert await migrate(pooled.owner_url) == []
        assert await locks(own_cluster) == 0, "nothing stays behind while the pooler goes on"


async def test_a_role_with_one_connection_is_let_through(own_cluster: OwnCluster) -> None:
    connection = await asyncpg.connect(own_cluster.superuser_url)
    try:
        await connection.execute("ALTER ROLE quire_owner CONNECTION LIMIT 1")
    finally:
        await connection.close()
    await require_sessions(own_cluster.owner_url, SETTING)


def served(data_dir: Path, database: Database) -> QuireProcess:
    server = QuireProcess(data_dir, database.server_url)
    server.settings(QUIRE_DATABASE_OWNER_URL=database.owner_url)
    return server


def test_a_server_behind_sessions_leaves_no_lock_behind(
    own_cluster: OwnCluster, data_dir: Path
) -> None:
    direct = Database("quire", own_cluster.owner_url, own_cluster.server_url, "")
    with pgbouncer(own_cluster, "session", default_pool_size="40") as pooled:
        server = served(data_dir.with_name("pooled"), pooled)
        server.start()
        server.create_org("sealed")
        assert server.terminate() == 0
        again = served(data_dir.with_name("pooled"), direct)
        again.start()
        again.create_org("plain")
        assert again.terminate() == 0


def test_a_server_behind_transactions_does_not_start(
    own_cluster: OwnCluster, data_dir: Path
) -> None:
    with pgbouncer(own_cluster, "transaction") as pooled:
        server = served(data_dir.with_name("refused"), pooled)
        server.launch()
        assert server.process.wait(60) == 2
        words = server.log.read_text()
        assert "QUIRE_DATABASE_URL leads to a pooler" in words
        assert "pool_mode = session" in words
        assert "statement_cache_size" not in words, "the driver's hint names a setting of its own"
        assert "Traceback" not in words
    assert blocking(locks(own_cluster)) == 0
