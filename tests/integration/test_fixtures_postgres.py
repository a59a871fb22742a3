"""The PostgreSQL fixtures themselves."""

import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from tests.support import reaper
from tests.support.clusters import Database, OwnCluster, blocking

_SESSION = """
import subprocess, sys, time
from pathlib import Path
from server.embedded import EmbeddedPostgres
from tests.support import reaper
directory = sys.argv[1]
reaping = subprocess.Popen(
    [sys.executable, "-I", reaper.__file__, directory], stdin=subprocess.PIPE, start_new_session=True
)
EmbeddedPostgres(Path(directory) / "data").start()
print("ready", flush=True)
time.sleep(600)
"""


async def test_owner_owns_the_database_and_the_server_role_may_only_connect(
    empty_database: Database,
) -> None:
    owner = await asyncpg.connect(empty_database.owner_url)
    server = await asyncpg.connect(empty_database.server_url)
    try:
        await owner.execute("CREATE TABLE made_by_owner (a int)")
        for refused in ("CREATE TABLE mine (a int)", "SELECT * FROM made_by_owner"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await server.execute(refused)
        assert not await owner.fetchval(
            "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
        )
    finally:
        await owner.close()
        await server.close()


async def fetch(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("_run", [1, 2])
async def test_database_is_migrated_and_fresh(database: Database, _run: int) -> None:
    await fetch(database.owner_url, "CREATE TABLE of_this_test ()")
    assert await fetch(database.server_url, "SELECT count(*) FROM orgs") == 0
    assert await fetch(database.superuser_url, "SELECT current_database()") == database.name
    private = "SELECT has_database_privilege('pg_monitor', current_database(), 'CONNECT')"
    assert await fetch(database.superuser_url, private) is False


def test_own_cluster_can_be_killed_and_comes_back(own_cluster: OwnCluster) -> None:
    count = "SELECT count(*) FROM orgs"
    assert blocking(fetch(own_cluster.server_url, count)) == 0
    own_cluster.kill()
    with pytest.raises((OSError, asyncpg.PostgresError)):
        blocking(fetch(own_cluster.server_url, count))
    own_cluster.start()
    assert f"127.0.0.1:{own_cluster.port}/" in own_cluster.server_url
    assert blocking(fetch(own_cluster.server_url, count)) == 0


def test_a_session_that_is_killed_leaves_no_process_and_no_file(session_dir: Path) -> None:
    directory = session_dir / "killed"
    directory.mkdir(mode=0o711)
    session = subprocess.Popen(
        [sys.executable, "-c", _SESSION, str(directory)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert session.stdout is not None
    assert session.stdout.readline() == b"ready\n"
    assert reaper.processes_of(str(directory))
    session.kill()
    session.wait()
    deadline = time.monotonic() + 20
    while directory.exists() or reaper.processes_of(str(directory)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
