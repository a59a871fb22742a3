"""/readyz reports that no append can be written, for exactly as long as that lasts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.plugins.server import StartServer
from tests.support.blocks import TABLE
from tests.support.clusters import Database, OwnCluster, blocking
from tests.support.posting import post
from tests.support.rings import slow
from tests.support.serving import Server, start_server
from tests.support.standby import Standby
from tests.support.waiting import until

WAITING = "SELECT count(*) FROM pg_locks WHERE relation = 'checkpoints'::regclass AND NOT granted"


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def on(url: str, *statements: str) -> None:
    blocking(execute(url, *statements))


def database_of(cluster: OwnCluster) -> Database:
    return Database("quire", cluster.owner_url, cluster.server_url, cluster.superuser_url)


@pytest.fixture
def own_server(own_cluster: OwnCluster, data_dir: Path) -> Iterator[Server]:
    """A server on a cluster of its own, with an org."""
    server = start_server(database_of(own_cluster), data_dir.with_name("server"))
    server.org, server.admin_key = server.create_org("plain")
    yield server
    server.stop()


def ready(server: Server) -> tuple[int, str]:
    answer = server.readiness()
    assert answer.json()["ready"] == (answer.status == 200)
    return answer.status, answer.json()["appends"]


def settled(server: Server, *expected: int) -> str:
    """Wait until /readyz answers with one of these; a recent commit may count for a moment before."""
    found: list[tuple[int, str]] = []

    def reached() -> bool:
        found.append(ready(server))
        return found[-1][0] in expected

    until(reached)
    return found[-1][1]


def test_idle_and_under_load_it_is_ready(server: Server) -> None:
    for _ in range(3):
        assert post(server, server.org, server.admin_key).status == 201
        assert ready(server) == (200, "ok")
    assert settled(server, 200) == "ok"


def test_a_role_set_to_read_only_still_writes(
    start_servers: StartServer, database: Database
) -> None:
    on(
        database.superuser_url,
        f"ALTER ROLE quire_server IN DATABASE {database.name} SET default_transaction_read_only = on",
    )
    try:
        server = start_servers()
        org, key = server.create_org("plain")
        assert post(server, org, key).status == 201
        assert ready(server) == (200, "ok")
    finally:
        on(
            database.superuser_url,
            f"ALTER ROLE quire_server IN DATABASE {database.name} RESET ALL",
        )


@pytest.mark.slow
def test_revoked_rights(server: Server) -> None:
    url = server.database.superuser_url
    on(url, f"REVOKE INSERT ON {TABLE} FROM quire_server")
    answer = post(server, server.org, server.admin_key)
    assert answer.status == 503
    assert "refuses writes" in settled(server, 503)
    on(url, f"GRANT INSERT ON {TABLE} TO quire_server")
    assert settled(server, 200) == "ok"
    assert post(server, server.org, server.admin_key).status == 201


@pytest.mark.parametrize(
    ("right", "table"),
    [("INSERT", TABLE), slow("UPDATE", "heads"), slow("INSERT", "idempotency")],
)
def test_rights_that_an_idle_server_lacks(server: Server, right: str, table: str) -> None:
    url = server.database.superuser_url
    on(url, f"REVOKE {right} ON {table} FROM quire_server")
    assert "refuses writes" in settled(server, 503)
    on(url, f"GRANT {right} ON {table} TO quire_server")
    assert settled(server, 200) == "ok"


@pytest.mark.parametrize("table", [TABLE, slow("heads"), slow("idempotency")])
def test_a_table_that_is_locked_for_everybody(server: Server, table: str) -> None:
    """As CREATE INDEX locks it, or a migration that somebody left open."""

    async def held() -> None:
        connection = await asyncpg.connect(server.database.superuser_url)
        try:
            async with connection.transaction():
                await connection.execute(f"LOCK {table} IN SHARE MODE")
                assert settled(server, 503) == "the database confirmed no write in time"
        finally:
            await connection.close()

    blocking(held())
    assert settled(server, 200) == "ok"


def test_a_silent_database(own_server: Server, own_cluster: OwnCluster) -> None:
    """A database that neither answers nor closes its connections, as behind a lost route."""
    assert own_cluster.postgres.pid is not None
    postmaster = psutil.Process(own_cluster.postgres.pid)
    silent = [postmaster, *postmaster.children(recursive=True)]
    for process in silent:
        process.suspend()
    try:
        for _ in range(3):
            began = time.monotonic()
            answer = own_server.readiness()
            assert time.monotonic() - began < 4
            assert (answer.status, answer.json()["database"]) == (503, "unreachable")
    finally:
        for process in reversed(silent):
            process.resume()
    assert settled(own_server, 200) == "ok"


def test_reads_that_use_their_connections_are_no_alarm(server: Server) -> None:
    """Appends have connections of their own, and so have questions whether the server is ready."""
    orgs = [(server.org, server.admin_key), *(server.create_org() for _ in range(2))]
    size = server.settings.pool_size * 4 // 5  # the share of reads

    async def held(readers: ThreadPoolExecutor) -> None:
        connection = await asyncpg.connect(server.database.superuser_url)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE checkpoints")
                for org, key in orgs * size:
                    readers.submit(server.request, "GET", f"/v1/orgs/{org}/checkpoints", key=key)
                async with asyncio.timeout(30):
                    while await connection.fetchval(WAITING) < size:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                assert ready(server) == (200, "ok")
        finally:
            await connection.close()

    with ThreadPoolExecutor(size * 3) as readers:
        blocking(held(readers))


def test_the_probe_does_not_wait_for_a_backup(server: Server) -> None:
    """A reader's lock on the probe's table (pg_dump takes one) raises no alarm."""

    async def held() -> None:
        connection = await asyncpg.connect(server.database.superuser_url)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE write_probe IN ACCESS SHARE MODE")
                assert ready(server)[0] == 200
                assert server.services is not None
                server.services.sequencer._committer.health._committed_at = float("-inf")
                server.services.sequencer._committer.health._last_answer = (float("-inf"), None)
                assert ready(server) == (200, "ok")
        finally:
            await connection.close()

    blocking(held())


def test_the_appending_connection_is_lost(own_server: Server, own_cluster: OwnCluster) -> None:
    """The connection limit was lowered, and the connection that appends was lost."""
    on(own_cluster.superuser_url, "ALTER ROLE quire_server CONNECTION LIMIT 0")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = "
    on(own_cluster.superuser_url, f"{cut} 'quire append'")
    assert settled(own_server, 503) == "the database allows no more connections"
    on(own_cluster.superuser_url, "ALTER ROLE quire_server CONNECTION LIMIT -1")
    assert settled(own_server, 200) == "ok"
    assert post(own_server, own_server.org, own_server.admin_key).status == 201


def test_few_connections_are_enough(own_cluster: OwnCluster, data_dir: Path) -> None:
    on(own_cluster.superuser_url, "ALTER ROLE quire_server CONNECTION LIMIT 6")
    server = start_server(database_of(own_cluster), data_dir.with_name("server"))
    try:
        org, key = server.create_org("plain")
        reads = many(lambda: server.request("GET", f"/v1/orgs/{org}/head", key=key).status, 200)
        assert reads == {200}
        assert many(lambda: post(server, org, key).status, 60) == {201}
        assert ready(server) == (200, "ok")
    finally:
        server.stop()


def many(call: Callable[[], int], times: int) -> set[int]:
    with ThreadPoolExecutor(50) as pool:
        return {asked.result() for asked in [pool.submit(call) for _ in range(times)]}


def test_a_standby_takes_no_writes(own_server: Server, own_cluster: OwnCluster) -> None:
    """The primary became a standby, as after a failover to another host: it only answers reads."""
    data = own_cluster.postgres.data
    own_cluster.stop()
    (data / "standby.signal").touch()
    own_cluster.start()
    assert settled(own_server, 503) == "the database is read-only"
    head = f"/v1/orgs/{own_server.org}/head"
    assert own_server.request("GET", head, key=own_server.admin_key).status == 200
    own_cluster.stop()
    (data / "standby.signal").unlink()
    own_cluster.start()
    assert settled(own_server, 200) == "ok"


async def test_a_silent_synchronous_standby(own_cluster: OwnCluster, data_dir: Path) -> None:
    standby = Standby(own_cluster)
    await standby.start()
    try:
        server = await asyncio.to_thread(
            start_server, database_of(own_cluster), data_dir.with_name("server")
        )
        try:
            with standby.asleep():
                said = await asyncio.to_thread(settled, server, 503)
                assert said == "the database confirmed no write in time"
            assert await asyncio.to_thread(settled, server, 200) == "ok"
        finally:
            await asyncio.to_thread(server.stop)
    finally:
        standby.stop()


@pytest.fixture
def small_disk(session_dir: Path) -> Iterator[Path]:
    """A small file system of the test's own, to be filled."""
    folder = session_dir / "small"
    folder.mkdir(mode=0o711)
    mounted = ["mount", "-t", "tmpfs", "-o", "size=320m,mode=0711", "tmpfs", str(folder)]
    subprocess.run(mounted, check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write a file until the file system is full; returns its path."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue
    return path


def on_a_full_disk(small_disk: Path, data_dir: Path) -> None:
    cluster = OwnCluster(small_disk / "pg")
    cluster.start()
    try:
        cluster.provide()
        server = start_server(database_of(cluster), data_dir.with_name("server"))
        try:
            org, key = server.create_org("plain")
            assert post(server, org, key).status == 201
            ballast = fill(small_disk)
            assert settled(server, 503) in {
                "the database has no disk space left",
                "the database can't be reached",  # the server ran out of room for its own log
            }
            ballast.unlink()
            assert settled(server, 200) == "ok"
            until(lambda: post(server, org, key).status == 201)
        finally:
            server.stop()
    finally:
        cluster.stop()


if os.geteuid() == 0:  # only root can mount a file system: without it the test is not made

    def test_a_full_disk(small_disk: Path, data_dir: Path) -> None:
        on_a_full_disk(small_disk, data_dir)
