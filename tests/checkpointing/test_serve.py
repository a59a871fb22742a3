"""`quire serve` runs a signer process: it starts it, replaces it when it dies, and ends it at its end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from server.keys.first_start import read_log_keys
from server.settings.data_dir import make_data_dir
from tests.support.appending import org_of
from tests.support.clusters import Database, blocking
from tests.support.quire_process import QuireProcess, wait_until_ended
from tests.support.serving import server_settings
from tests.support.signing import fetch, sound_history
from tests.support.waiting import until

SIGNED_S = 30.0
SIGNED = """
SELECT max(size) FROM checkpoints WHERE org_id IN (SELECT id FROM orgs WHERE slug <> 'system')"""
EVENT = {"action": "approve"}


@pytest.fixture
def server(database: Database, data_dir: Path) -> Iterator[QuireProcess]:
    running = QuireProcess(data_dir, database.server_url)
    running.start()
    yield running
    if running.process.poll() is None:
        running.terminate()


def signer_of(server: QuireProcess) -> int:
    """Wait for the signer process; returns its id."""
    deadline = time.monotonic() + SIGNED_S
    while not (found := server.beside("signer")):
        assert time.monotonic() < deadline, "no signer runs"
        time.sleep(0.05)
    return found[0]


def another_signer(server: QuireProcess, than: int) -> bool:
    return server.beside("signer") not in ([], [than])


def append(server: QuireProcess, slug: str, key: str, events: object = EVENT) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {"x-api-key": key, "content-type": "application/json"}
    connection.request("POST", f"/v1/orgs/{slug}/entries", json.dumps(events), headers)
    assert connection.getresponse().status == 201
    connection.close()


def signed(database: Database, size: int) -> None:
    """Wait until the trail of the only org but `system` is signed at this size and anchored."""
    deadline = time.monotonic() + SIGNED_S
    while blocking(fetch(database, SIGNED))[0][0] != size:
        assert time.monotonic() < deadline, f"no checkpoint of size {size}"
        time.sleep(0.05)


def test_a_killed_signer_is_replaced_and_none_outlives_the_server(
    database: Database, server: QuireProcess
) -> None:
    slug, key = server.create_org("sealed")
    append(server, slug, key)
    signed(database, 1)
    for size in (2, 3):
        first = signer_of(server)
        os.kill(first, signal.SIGKILL)
        append(server, slug, key)
        signed(database, size)
        assert signer_of(server) != first
    assert server.terminate() == 0
    wait_until_ended(server)
    keys = read_log_keys(server_settings(server.data_dir))
    assert keys is not None
    org = blocking(org_of(database, slug))
    memory = server.data_dir / "signed.sqlite"
    sizes = blocking(sound_history(database, org, memory, keys.public()))
    assert sizes[-1] == 3


def test_the_signer_does_not_outlive_a_killed_server(
    database: Database, server: QuireProcess
) -> None:
    slug, key = server.create_org("sealed")
    append(server, slug, key)
    signed(database, 1)
    signer_of(server)
    server.kill()
    wait_until_ended(server)


def test_a_killed_fork_server_has_a_successor(database: Database, server: QuireProcess) -> None:
    slug, key = server.create_org("sealed")
    for size in (1, 2, 3):  # the first is forked from the server, its successors are not
        append(server, slug, key)
        signed(database, size)
        signer = signer_of(server)
        (forks,) = server.beside("forks")
        os.kill(forks, signal.SIGKILL)
        until(partial(another_signer, server, signer))
    append(server, slug, key)
    signed(database, 4)
    assert server.terminate() == 0
    wait_until_ended(server)


def test_a_signer_that_hangs_holds_up_neither_appends_nor_the_end(
    database: Database, server: QuireProcess
) -> None:
    slug, key = server.create_org("sealed")
    append(server, slug, key)
    signed(database, 1)
    os.kill(signer_of(server), signal.SIGSTOP)
    for _ in range(20):
        append(server, slug, key)
    assert server.terminate() == 0
    wait_until_ended(server)


def test_without_its_keys_nothing_is_signed_until_they_are_back(
    database: Database, server: QuireProcess
) -> None:
    slug, key = server.create_org("sealed")
    append(server, slug, key)
    signed(database, 1)
    path = server_settings(server.data_dir).log_keys_path
    kept = path.read_bytes()
    path.unlink()
    time.sleep(2)
    append(server, slug, key)
    time.sleep(3)
    assert blocking(fetch(database, SIGNED))[0][0] == 1
    assert "log keys are missing" in server.log.read_text()
    assert not path.exists()
    path.touch(0o600)
    path.write_bytes(kept)
    signed(database, 2)


def test_an_unusable_memory_is_reported(database: Database, data_dir: Path) -> None:
    make_data_dir(data_dir)
    (data_dir / "signed.sqlite").mkdir()
    server = QuireProcess(data_dir, database.server_url)
    server.start()
    slug, key = server.create_org("sealed")
    append(server, slug, key)
    deadline = time.monotonic() + SIGNED_S
    while "the signer's memory" not in server.log.read_text():
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.1)
    assert blocking(fetch(database, "SELECT FROM checkpoints")) == []
    (data_dir / "signed.sqlite").rmdir()
    signed(database, 1)
    assert server.terminate() == 0
    wait_until_ended(server)


def test_a_backlog_is_signed_and_reported(database: Database, data_dir: Path) -> None:
    """An unsigned trail that is longer than one round signs."""
    server = QuireProcess(data_dir, database.server_url)
    server.settings(QUIRE_CHECKPOINTS="false", QUIRE_LOG_LEVEL="info")
    server.start()
    slug, key = server.create_org("plain")
    for _ in range(6):
        append(server, slug, key, [EVENT] * 10_000)
    assert server.terminate() == 0
    server.settings(QUIRE_CHECKPOINTS="true")
    server.start()
    signed(database, 60_000)
    assert server.terminate() == 0
    told = server.log.read_text()
    assert "catching up" in told
    assert "behind=10000" in told
