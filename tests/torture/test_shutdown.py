"""SIGTERM under load: every 201 is durable, the exit code is 0, and no process is left."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.appending import org_of, rows_of, sound_trail
from tests.support.clusters import Database, blocking
from tests.support.load import Load
from tests.support.quire_process import GONE_S, SHUTDOWN_S, QuireProcess, wait_until_ended
from tests.support.rings import slow

ACKNOWLEDGED = 60


async def check(database: Database, server: QuireProcess, slug: str, load: Load) -> None:
    org = await org_of(database, slug)
    await sound_trail(database, org, server.keyring())
    load.ledger.check(await rows_of(database, org.id))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [slow(1), 2])
def test_under_load_every_answer_is_durable(
    database: Database, data_dir: Path, workers: int, number: signal.Signals
) -> None:
    server = QuireProcess(data_dir, database.server_url, workers)
    server.start()
    slug, key = server.create_org("sealed")
    # No client retries for ever here: the server is not restarted.
    with Load(server.url, slug, key, keyed=0, bare=8).running() as load:
        load.wait_for(ACKNOWLEDGED)
        server.process.send_signal(number)
        assert server.process.wait(SHUTDOWN_S + 3 * GONE_S) == 0
    wait_until_ended(server)
    blocking(check(database, server, slug, load))


def test_the_embedded_postgresql_ends_with_its_server(data_dir: Path) -> None:
    server = QuireProcess(data_dir)
    server.start()
    slug, key = server.create_org("plain")
    with Load(server.url, slug, key, keyed=0, bare=4).running() as load:
        load.wait_for(ACKNOWLEDGED)
        assert server.terminate() == 0
    wait_until_ended(server)
    server.start()
    blocking(check(server.embedded(), server, slug, load))
    assert server.terminate() == 0
    wait_until_ended(server)


def test_a_signal_while_it_starts_leaves_nothing_behind(data_dir: Path) -> None:
    server = QuireProcess(data_dir)
    server.launch()
    deadline = time.monotonic() + GONE_S
    while not list(data_dir.glob("**/postmaster.pid")):
        assert time.monotonic() < deadline, "PostgreSQL does not start"
        time.sleep(0.005)
    assert server.terminate() == 0
    wait_until_ended(server)


def test_workers_do_not_outlive_a_killed_supervisor(database: Database, data_dir: Path) -> None:
    server = QuireProcess(data_dir, database.server_url, workers=2)
    server.start()
    slug, key = server.create_org("sealed")
    with Load(server.url, slug, key, keyed=0, bare=4).running() as load:
        load.wait_for(ACKNOWLEDGED)
        assert len(server.pids()) >= 3
        server.kill()
        wait_until_ended(server)
    blocking(check(database, server, slug, load))


def test_a_killed_worker_is_replaced(database: Database, data_dir: Path) -> None:
    server = QuireProcess(data_dir, database.server_url, workers=2)
    server.start()
    slug, key = server.create_org("sealed")
    with Load(server.url, slug, key).running() as load:
        for _ in range(3):
            load.wait_for(ACKNOWLEDGED)
            os.kill(server.workers()[0], signal.SIGKILL)
        load.wait_for(ACKNOWLEDGED)
    assert server.terminate() == 0
    wait_until_ended(server)
    blocking(check(database, server, slug, load))
