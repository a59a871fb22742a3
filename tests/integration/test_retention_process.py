"""The process of retention seals months as its own login, and no start goes without that login."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from ledger.errors import DatabaseUnfit, StorageError
from ledger.storage.database import RETENTION_ROLE
from ledger.storage.dropped_months import exclusive
from ledger.storage.logins import require_confined, require_login
from server.process.children.context import ProcessContext
from server.process.children.forking import set_environment
from server.process.database.own_database import DatabaseUrls
from server.process.database.required_logins import retention_login
from server.process.retention import RetentionProcess
from server.refusal import StartupRefused
from server.settings import Settings
from tests.support import blocks
from tests.support.appending import superuser
from tests.support.clusters import Database, as_role, blocking
from tests.support.quire_process import QuireProcess, wait_until_ended
from tests.support.serving import Server
from tests.support.signing import fetch
from tests.support.waiting import until

EXTERNAL = "postgresql://quire_server@db.example/quire"
URLS = DatabaseUrls("", EXTERNAL, None, None)
SEALED = (
    "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass($1) AND tgname = 'sealed')"
)


def settings(**changes: Any) -> Settings:
    return Settings.from_env({}, {"database_url": EXTERNAL, **changes})


async def test_a_turn_seals_what_is_over(server: Server) -> None:
    database = server.database
    over = (datetime.now(UTC) - timedelta(days=70)).replace(day=1, hour=0)
    part = blocks.partition(over.year, over.month)
    async with superuser(database) as connection:
        await connection.execute("SELECT quire_add_entries_month($1)", over)
        assert not await connection.fetchval(SEALED, part)
        process = RetentionProcess(server.settings, database.server_url, database.retention_url)
        await process._turn()
        assert await connection.fetchval(SEALED, part)
        ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'quire retention'"
        assert await connection.fetchval(f"{ours} AND datname = current_database()") == 0


def test_a_running_server_seals_and_its_own_role_can_not(
    database: Database, data_dir: Path
) -> None:
    over = (datetime.now(UTC) - timedelta(days=70)).replace(day=1, hour=0)
    part = blocks.partition(over.year, over.month)
    blocking(fetch(database, "SELECT quire_add_entries_month($1)", over))
    server = QuireProcess(data_dir, database.server_url)
    server.start()
    try:
        until(lambda: blocking(fetch(database, SEALED, part))[0][0], "nothing is sealed")
    finally:
        assert server.terminate() == 0
    wait_until_ended(server)


async def test_one_process_at_a_time_and_the_server_can_not_hold_it_off(database: Database) -> None:
    connection = await asyncpg.connect(database.server_url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("BEGIN; LOCK TABLE quire_retaining.leader IN SHARE MODE")
        await connection.execute("ROLLBACK")
        async with exclusive(database.retention_url) as first:
            assert first
            async with exclusive(database.retention_url) as second:
                assert not second
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE usename = 'quire_retention' AND datname = current_database()"
                )
    finally:
        await connection.close()
    async with exclusive(database.retention_url) as again:
        assert again


def test_a_policy_without_the_login_is_refused() -> None:
    wanted = settings(retention_months=3, archive_url="file:///archive")
    with pytest.raises(StartupRefused, match="CREATE ROLE quire_retention LOGIN PASSWORD"):
        retention_login(wanted, URLS)
    assert retention_login(wanted, URLS._replace(retention="postgresql://r@db/q")) is not None


def test_without_a_policy_the_log_says_that_nothing_is_sealed() -> None:
    with capture_logs() as lines:
        assert retention_login(settings(), URLS) is None
    (line,) = lines
    assert line["log_level"] == "warning"
    assert "are not sealed" in line["event"]


async def test_a_login_that_the_server_can_become_is_refused(database: Database) -> None:
    await require_login(database.retention_url, RETENTION_ROLE)
    with pytest.raises(StorageError, match="QUIRE_DATABASE_RETENTION_URL can't act as"):
        await require_login(database.server_url, RETENTION_ROLE)
    async with superuser(database) as connection:
        await connection.execute("GRANT quire_retention TO quire_server")
        try:
            with pytest.raises(DatabaseUnfit, match="the role quire_server can become"):
                await require_login(database.retention_url, RETENTION_ROLE)
        finally:
            await connection.execute("REVOKE quire_retention FROM quire_server")


@pytest.mark.parametrize(
    ("grant", "revoke", "said"),
    [
        ("GRANT quire_signer TO {}", "REVOKE quire_signer FROM {}", "a member of quire_signer"),
        ("GRANT pg_signal_backend TO {}", "REVOKE pg_signal_backend FROM {}", "pg_signal_backend"),
        ("ALTER ROLE {} CREATEROLE", "ALTER ROLE {} NOCREATEROLE", "CREATEROLE"),
    ],
)
@pytest.mark.parametrize("login", ["quire_server", "quire_app"])
async def test_a_server_s_login_that_may_do_too_much_is_refused(
    database: Database, login: str, grant: str, revoke: str, said: str
) -> None:
    """Its role, or a login of another name that is a member of it."""
    url = as_role(database.server_url, login)
    async with superuser(database) as connection:
        if login == "quire_app":
            await connection.execute("CREATE ROLE quire_app LOGIN; GRANT quire_server TO quire_app")
            await connection.execute(f"GRANT CONNECT ON DATABASE {database.name} TO quire_app")
        try:
            await require_confined(url)
            await connection.execute(grant.format(login))
            try:
                with pytest.raises(DatabaseUnfit, match=said):
                    await require_confined(url)
            finally:
                await connection.execute(revoke.format(login))
        finally:
            if login == "quire_app":
                await connection.execute("DROP OWNED BY quire_app; DROP ROLE quire_app")


async def test_a_superuser_is_no_login_of_the_server(database: Database) -> None:
    with pytest.raises(DatabaseUnfit, match="it is a superuser"):
        await require_confined(database.superuser_url)


def test_a_process_gets_no_login_of_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    named = {
        f"database_{name}_url": f"postgresql://{name}@db.example/quire"
        for name in ("owner", "signer", "retention")
    }
    for name, url in named.items():
        monkeypatch.setenv(f"QUIRE_{name.upper()}", url)
    mine = settings(data_dir=tmp_path, **named).without_logins()
    context = ProcessContext(mine, EXTERNAL).encoded()
    assert not [url for url in named.values() if url in context]
    for name in ("PYTHONSAFEPATH", "PYTHONPATH", "QUIRE_DATA_DIR"):
        monkeypatch.setenv(name, "")
    set_environment(tmp_path)
    assert not [value for value in os.environ.values() for url in named.values() if url in value]
