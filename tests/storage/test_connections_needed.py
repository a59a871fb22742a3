"""Under load a server opens no more connections than the page on the database states."""

from __future__ import annotations

import asyncio
import os
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from ledger.core.sequencer import COMMITTERS
from ledger.storage.connection_room import tightest_limit
from ledger.storage.database import Database as Pool
from server.process.database import connections
from server.process.database.connections import connections_needed, warn_of_few_connections
from server.settings import Settings
from tests.support.clusters import OwnCluster
from tests.support.quire_process import QuireProcess
from tests.support.serving import server_settings

PAGE = (Path(__file__).parents[2] / "docs" / "database.md").read_text()
OPEN = """
SELECT application_name, count(*) FROM pg_stat_activity
WHERE usename IN ('quire_server', 'quire_signer') GROUP BY application_name"""


async def most_at_once(cluster: OwnCluster, load: asyncio.Future[None]) -> dict[str, int]:
    """The largest number of open connections by purpose while the load ran."""
    watcher = await asyncpg.connect(cluster.superuser_url)
    most: dict[str, int] = {}
    try:
        while not load.done():
            for name, count in await watcher.fetch(OPEN):
                most[name] = max(most.get(name, 0), count)
            await asyncio.sleep(0.02)
    finally:
        await watcher.close()
    await load
    return most


def put_load_on(server: QuireProcess) -> None:
    """Run more reads than the pool has connections, appends to several orgs, and a verification."""
    orgs = [server.create_org("plain") for _ in range(4)]

    def call(number: int) -> None:
        org, key = orgs[number % len(orgs)]
        path = "/entries" if number % 2 else "/entries?limit=50"
        body = b'{"event_type": "x"}' if number % 2 else None
        headers = {"x-api-key": key, "content-type": "application/json"}
        url = f"{server.url}/v1/orgs/{org}{path}"
        urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60).close()

    with ThreadPoolExecutor(60) as threads:
        list(threads.map(call, range(1_200)))
    org, key = orgs[0]
    start = urllib.request.Request(
        f"{server.url}/v1/orgs/{org}/verifications", b"{}",
        {"x-api-key": key, "content-type": "application/json"}, method="POST",
    )  # fmt: skip
    urllib.request.urlopen(start, timeout=60).close()
    with ThreadPoolExecutor(60) as threads:
        list(threads.map(call, range(600)))


async def test_a_server_under_load(own_cluster: OwnCluster, data_dir: Path) -> None:
    server = QuireProcess(data_dir, own_cluster.server_url)
    archive = f"file://{data_dir.with_name('archive')}"
    server.settings(
        QUIRE_DATABASE_OWNER_URL=own_cluster.owner_url,
        QUIRE_ARCHIVE_URL=archive,
        QUIRE_ARCHIVE_SECONDS="0.1",
    )
    await asyncio.to_thread(server.start)
    try:
        load = asyncio.ensure_future(asyncio.to_thread(put_load_on, server))
        most = await most_at_once(own_cluster, load)
    finally:
        assert await asyncio.to_thread(server.terminate) == 0
    assert most["quire append"] <= COMMITTERS
    assert most["quire signer"] == connections.SIGNER
    assert most["quire listen"] == 2, "of the worker, and of the archiver"
    verification = most.pop("quire verification", 0)
    beside = 3  # the snapshot, the search index, the rows that decide
    assert verification <= beside + (os.cpu_count() or 1)
    settings = server_settings(data_dir, database_url=own_cluster.server_url, archive_url=archive)
    # The connections of the start are closed before the first request.
    lasting = sum(count for name, count in most.items() if not name.startswith("quire start"))
    assert lasting <= connections_needed(settings)


def of(**changes: object) -> int:
    database = "postgresql://quire_server@db/quire"
    return connections_needed(Settings.from_env({}, {"database_url": database, **changes}))


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        ({}, "defaults, another database"),
        ({"archive_url": "file:///archive"}, "with an archive"),
        ({"workers": 4, "archive_url": "file:///archive"}, "four workers and an archive"),
        ({"checkpoints": False}, "no signer"),
    ],
)
def test_the_page_has_the_numbers(changes: dict[str, object], row: str) -> None:
    (said,) = re.findall(rf"^\| {row} \| (\d+) \|$", PAGE, re.MULTILINE)
    assert int(said) == of(**changes)


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        (
            "ALTER ROLE quire_server CONNECTION LIMIT 12",
            "CONNECTION LIMIT of the role quire_server",
        ),
        ("ALTER DATABASE quire CONNECTION LIMIT 12", "CONNECTION LIMIT of the database quire"),
    ],
)
async def test_a_too_low_limit_is_reported_at_the_start(
    own_cluster: OwnCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    statement: str, name: str,
) -> None:  # fmt: skip
    connection = await asyncpg.connect(own_cluster.superuser_url)
    pool = await Pool.open(own_cluster.server_url, size=1)
    try:
        generous = await tightest_limit(pool)
        assert generous.name.startswith("max_connections")
        await warn_of_few_connections(server_settings(tmp_path), pool)
        assert "fewer connections" not in capsys.readouterr().out
        await connection.execute(statement)
        assert await tightest_limit(pool) == (name, 12)
        await warn_of_few_connections(server_settings(tmp_path), pool)
        told = capsys.readouterr()
        assert "fewer connections" in told.out + told.err
        assert name in told.out + told.err
    finally:
        await pool.close()
        await connection.close()
