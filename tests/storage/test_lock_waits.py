"""A start that waits for a lock reports the wait and the lock's holder."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from ledger.storage import dropped_months, migrate
from ledger.storage.archive_accounts import ARCHIVER_LOCK
from ledger.storage.database import SIGNER_ROLE, connect
from ledger.storage.lock_waits import holders
from ledger.storage.provision import provision
from ledger.storage.signing import SignerConnection
from server.keys.own_keys import require_own_keys_at
from server.process.database import own_database
from tests.support.clusters import Database, OwnCluster, as_role
from tests.support.quire_process import QuireProcess
from tests.support.serving import server_settings

HOLDER = "left behind"


@asynccontextmanager
async def holding_locks(url: str, *statements: str) -> AsyncIterator[int]:
    """Hold the locks that these statements take in a session; yields its process id."""
    connection = await asyncpg.connect(url, server_settings={"application_name": HOLDER})
    try:
        for statement in statements:
            await connection.execute(statement)
        yield connection.get_server_pid()
    finally:
        connection.terminate()


@pytest.fixture
def early_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report the first wait after a moment instead of five seconds."""
    monkeypatch.setattr("ledger.storage.lock_waits.GrowingIntervals.__init__.__defaults__", (0.2,))


LEADER_LOCK = "LOCK TABLE quire_signing.leader IN EXCLUSIVE MODE"


async def logged_wait(caplog: pytest.LogCaptureFixture, pid: int) -> str:
    """Wait until the log names this process as the holder; returns the logged text."""
    async with asyncio.timeout(60):
        while f"process {pid} of PostgreSQL" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return caplog.text


@pytest.mark.parametrize(
    ("statements", "what"),
    [
        ((f"SELECT pg_advisory_lock({migrate._ADVISORY_LOCK})",), "an advisory lock"),
        (("BEGIN", "LOCK TABLE schema_migrations"), "a lock on schema_migrations"),
    ],
)
@pytest.mark.usefixtures("early_reports")
async def test_migrations(
    database: Database,
    caplog: pytest.LogCaptureFixture,
    statements: tuple[str, ...],
    what: str,
) -> None:
    caplog.set_level(logging.WARNING)
    async with holding_locks(database.owner_url, *statements) as pid:
        waiting = asyncio.create_task(migrate.migrate(database.owner_url))
        words = await logged_wait(caplog, pid)
        assert not waiting.done()
    assert await waiting == []
    assert f"for {what}, held by process {pid}" in words
    assert f'application "{HOLDER}", user "quire_owner", client' in words


@pytest.mark.parametrize("table", ["key_checks", "orgs", "log_keys"])
@pytest.mark.parametrize("way", ["a server with its own database", "a command"])
@pytest.mark.usefixtures("early_reports")
async def test_the_comparison_of_keys(
    database: Database, data_dir: Path, caplog: pytest.LogCaptureFixture, table: str, way: str
) -> None:
    caplog.set_level(logging.WARNING)
    settings = server_settings(data_dir, database_url=database.owner_url)
    async with holding_locks(database.owner_url, "BEGIN", f"LOCK TABLE {table}") as pid:
        compare = (
            own_database._migrate_own(settings, database.owner_url)
            if way.startswith("a server")
            else require_own_keys_at(database.owner_url, settings)
        )
        waiting = asyncio.create_task(compare)
        words = await logged_wait(caplog, pid)
        assert not waiting.done()
    await waiting
    assert f"for a lock on {table}, held by process {pid}" in words


@pytest.mark.usefixtures("early_reports")
async def test_the_policy_of_retention(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    lock = ("BEGIN", "SELECT FROM retention FOR UPDATE")
    async with holding_locks(database.owner_url, *lock) as pid:
        waiting = asyncio.create_task(dropped_months.set_keep_months(database.owner_url, 3))
        await logged_wait(caplog, pid)
    await waiting


async def test_the_holder_of_a_lock_is_found_among_others(database: Database) -> None:
    url = database.signer_url
    async with (
        holding_locks(url, "BEGIN", "LOCK TABLE quire_signing.turn IN EXCLUSIVE MODE"),
        holding_locks(url, "BEGIN", LEADER_LOCK) as pid,
        SignerConnection.open(url) as signer,
    ):
        assert not await signer.lead()
        words = await signer.leader()
        assert f"process {pid} of PostgreSQL" in words
        assert ";" not in words


async def test_the_holder_of_an_advisory_lock_is_found_among_others(database: Database) -> None:
    async with (
        holding_locks(database.server_url, f"SELECT pg_advisory_lock({ARCHIVER_LOCK + 1})"),
        holding_locks(database.server_url, f"SELECT pg_advisory_lock({ARCHIVER_LOCK})") as pid,
    ):
        connection = await connect(database.server_url)
        try:
            words = await holders(connection, ARCHIVER_LOCK)
            assert f"process {pid} of PostgreSQL" in words
            assert ";" not in words
            assert await holders(connection, ARCHIVER_LOCK + 2) == "a session that has just ended"
        finally:
            connection.terminate()


async def test_a_server_reports_lock_waits_of_its_start_and_its_signer(
    own_cluster: OwnCluster, data_dir: Path
) -> None:
    server = QuireProcess(data_dir, own_cluster.server_url)
    server.settings(QUIRE_DATABASE_OWNER_URL=own_cluster.owner_url)
    partitions = ("BEGIN", "SELECT pg_advisory_xact_lock(73058, 1)")
    signer_url = as_role(own_cluster.server_url, SIGNER_ROLE)
    async with holding_locks(signer_url, "BEGIN", LEADER_LOCK) as signer_pid:
        async with holding_locks(own_cluster.server_url, *partitions) as start_pid:
            server.launch()
            await logged(server, f"process {start_pid} of PostgreSQL")
        await logged(server, f"process {signer_pid} of PostgreSQL")
        assert "waits for its lock" in server.log.read_text()
    assert await asyncio.to_thread(server.terminate) == 0


async def logged(server: QuireProcess, words: str) -> None:
    async with asyncio.timeout(60):
        while words not in server.log.read_text():
            assert server.process.poll() is None, server.log.read_text()
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("early_reports")
async def test_a_standby_that_confirms_nothing(
    own_cluster: OwnCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    operator = await asyncpg.connect(own_cluster.superuser_url)
    try:
        await operator.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await operator.execute("SELECT pg_reload_conf()")
        while await operator.fetchval("SHOW synchronous_standby_names") != "nobody":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        waiting = asyncio.create_task(provision(own_cluster.superuser_url))
        async with asyncio.timeout(60):
            while "for a synchronous standby" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert not waiting.done()
        assert "synchronous_standby_names" in caplog.text
        await operator.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await operator.execute("SELECT pg_reload_conf()")
        await waiting
    finally:
        await operator.close()
