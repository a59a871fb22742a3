"""`quire serve` runs an indexer: it needs no signer, is replaced when it dies; `quire search rebuild`."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ledger.blocks.postings import RUN_ENTRIES
from tests.cli.commands import run
from tests.support.clusters import Database, blocking
from tests.support.quire_process import QuireProcess, wait_until_ended
from tests.support.serving import MASTER_KEY, SIGNING_KEY
from tests.support.signing import fetch
from tests.support.waiting import PATIENCE_S, until

ROWS = "SELECT org_id, level, stretch, bucket, mac, postings FROM tag_runs ORDER BY 1, 2, 3, 4, 5"


@pytest.fixture
def server(database: Database, data_dir: Path) -> Iterator[QuireProcess]:
    """A server without a signer."""
    running = QuireProcess(data_dir, database.server_url)
    running.settings(QUIRE_CHECKPOINTS="false")
    running.start()
    yield running
    if running.process.poll() is None:
        running.terminate()


def get(server: QuireProcess, path: str, key: str = "") -> str:
    request = urllib.request.Request(f"{server.url}{path}", headers={"x-api-key": key})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        text: str = response.read().decode()
        return text


def append(server: QuireProcess, slug: str, key: str, count: int) -> None:
    events = [{"action": "a", "actor": f"user:{number % 10}"} for number in range(count)]
    request = urllib.request.Request(
        f"{server.url}/v1/orgs/{slug}/entries",
        json.dumps(events).encode(),
        {"x-api-key": key, "content-type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=PATIENCE_S).close()


def is_replaced(server: QuireProcess, dead: int) -> bool:
    return server.beside("indexer") not in ([dead], [])


def rows_of(database: Database) -> list[Any]:
    return blocking(fetch(database, ROWS))


def lag(server: QuireProcess) -> float:
    (line,) = (
        line
        for line in server.metrics().splitlines()
        if line.startswith("quire_search_unindexed_entries ")
    )
    return float(line.split()[1])


def found(server: QuireProcess, slug: str, key: str) -> int:
    page = get(server, f"/v1/orgs/{slug}/entries?actor=user:3&limit=1000", key)
    return len(json.loads(page)["entries"])


def events_of(server: QuireProcess, slug: str) -> list[dict[str, str]]:
    key = (server.data_dir / "platform.key").read_text().strip()
    events: list[dict[str, str]] = json.loads(get(server, f"/v1/orgs/{slug}/security-events", key))[
        "events"
    ]
    return events


async def remove(database: Database, where: str) -> None:
    connection = await asyncpg.connect(database.superuser_url)
    await connection.execute(
        f"SET session_replication_role = replica; DELETE FROM tag_runs WHERE {where}"
    )
    await connection.close()


def append_run(server: QuireProcess, slug: str, key: str) -> None:
    """Append a run of entries, each tenth of which is about user:3, and wait for its row."""
    append(server, slug, key, RUN_ENTRIES // 2)
    append(server, slug, key, RUN_ENTRIES // 2)
    until(lambda: lag(server) == 0, "the run is not indexed")


def test_an_indexer_that_dies_is_replaced_and_none_outlives_the_server(
    database: Database, server: QuireProcess
) -> None:
    slug, key = server.create_org("plain")
    for runs in (1, 2):
        append_run(server, slug, key)
        assert len(rows_of(database)) == runs
        assert found(server, slug, key) == runs * 102
        (first,) = server.beside("indexer")
        os.kill(first, signal.SIGKILL)
        until(partial(is_replaced, server, first), "no indexer")
    server.kill()
    wait_until_ended(server)


def test_a_removed_row_is_reported_once_and_rebuilt(
    database: Database, server: QuireProcess
) -> None:
    slug, key = server.create_org("plain")
    append_run(server, slug, key)
    append_run(server, slug, key)
    before = rows_of(database)
    blocking(remove(database, "stretch = 0"))
    for _ in range(2):
        assert found(server, slug, key) == 204
        (event,) = events_of(server, slug)
        assert event["kind"] == "search_index_damaged"
        assert "run 0. " in event["detail"]
    settings = {
        "QUIRE_DATABASE_URL": database.server_url,
        "QUIRE_DATABASE_OWNER_URL": database.owner_url,
        "QUIRE_MASTER_KEY": MASTER_KEY,
        "QUIRE_AUDIT_SECRET_KEY": SIGNING_KEY,
        "QUIRE_DATA_DIR": str(server.data_dir),
    }
    said = run("search", "rebuild", slug, settings=settings)
    assert said.stdout.decode() == f"{slug}: 1 row right, 1 added, 0 removed.\n", said.stderr
    assert rows_of(database) == before
    said = run("search", "rebuild", "--json", settings=settings)
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    assert {"org": slug, "right": 2, "added": 0, "removed": 0, "kept": 0} in lines
    said = run("search", "rebuild", "nobody", settings=settings)
    assert (said.returncode, said.stdout) == (2, b"")
    assert b"There is no org nobody." in said.stderr
