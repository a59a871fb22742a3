"""A normal restart raises no alarm: no warning in the log, no security event, no metric, no 503."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from ledger.core.lasting import GRACE_S
from tests.support.clusters import Database, OwnCluster, blocking
from tests.support.load import Load
from tests.support.quire_process import QuireProcess, eager_process
from tests.support.rings import slow
from tests.support.signing import fetch
from tests.support.waiting import until

ENTRIES = 40
RESTARTS = 6
"""So often a restart is tried until one takes less than GRACE_S, on a machine with other work."""
BESIDE = ("signer", "archiver", "indexer", "retention")
PATIENCE_S = 60.0
BANNER = ("Quire serves", "  ", "Append an event", "Verify the whole", "Stop with")
LOUD = {"warning", "error", "critical"}
# The keys of the first start have no end, which is said once and calls for nobody at night.
EVENTS = "SELECT kind, detail FROM security_events WHERE kind <> 'key_never_expires'"
ALARMS = ("quire_orgs_frozen_total", "quire_stopped_trees", "quire_clock_leaps_total")


def alarms(server: QuireProcess) -> list[str]:
    """The log lines that call for an operator."""
    return [line for line in server.log.read_text().splitlines() if _is_loud(line)]


def _is_loud(line: str) -> bool:
    if not line.strip() or line.startswith(BANNER):
        return False
    try:
        return json.loads(line)["level"] in LOUD
    except ValueError:
        return True  # a traceback, or another line not written by the logger


def metrics(server: QuireProcess) -> dict[str, float]:
    text = server.metrics()
    found = {}
    for name in ALARMS:
        match = re.search(rf"^{name} (.+)$", text, re.MULTILINE)
        found[name] = float(match[1]) if match else 0.0
    return found


def assert_no_alarm(server: QuireProcess, database: Database | OwnCluster) -> None:
    """Check that no log line, event or metric calls for an operator."""
    assert alarms(server) == []
    assert blocking(fetch(database, EVENTS)) == []  # type: ignore[arg-type]


def no_metric(server: QuireProcess) -> None:
    assert set(metrics(server).values()) == {0.0}


@contextmanager
def watched(server: QuireProcess) -> Iterator[list[int]]:
    """Collect the statuses of /readyz while the block runs, from the first 200 on."""
    stop, found = threading.Event(), list[int]()

    def watch() -> None:
        while not stop.wait(0.05):
            try:
                urllib.request.urlopen(f"{server.url}/readyz", timeout=30).close()
                found.append(200)
            except urllib.error.HTTPError as error:
                found.append(error.code)
            except OSError:
                continue  # down: a load balancer uses another server

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def database_of(server: QuireProcess, database: Database | None) -> Database:
    return server.embedded() if database is None else database


@pytest.mark.parametrize(
    ("how", "embedded", "workers"),
    [
        (signal.SIGTERM, True, 1),
        pytest.param(signal.SIGINT, False, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, True, 2, marks=pytest.mark.slow),
        (signal.SIGKILL, False, 1),
    ],
)
def test_a_server_that_is_restarted_under_load(
    database: Database, data_dir: Path, how: signal.Signals, embedded: bool, workers: int
) -> None:
    server = eager_process(data_dir, None if embedded else database.server_url, workers)
    server.start()
    slug, key = server.create_org("sealed")
    with Load(server.url, slug, key, bare=0).running() as load:
        load.wait_for(ENTRIES)
        server.process.send_signal(how)
        server.process.wait(PATIENCE_S)
        server.start()
        with watched(server) as ready:
            load.wait_for(ENTRIES)
        assert set(ready) <= {200}
    no_metric(server)
    assert_no_alarm(server, database_of(server, None if embedded else database))
    assert server.terminate() == 0
    assert alarms(server) == []


def test_a_database_that_is_restarted(own_cluster: OwnCluster, data_dir: Path) -> None:
    server = eager_process(data_dir.with_name(f"{data_dir.name}-server"), own_cluster.server_url, 2)
    server.start()
    slug, key = server.create_org("sealed")
    noise = 0
    with Load(server.url, slug, key, bare=0).running() as load:
        load.wait_for(ENTRIES)
        for _ in range(RESTARTS):
            noise = len(alarms(server))
            began = time.monotonic()
            own_cluster.stop()
            own_cluster.start()
            load.wait_for(ENTRIES)
            if time.monotonic() - began < GRACE_S:  # else it is right to say that it lasts
                break
    no_metric(server)
    assert alarms(server)[noise:] == []
    assert blocking(fetch(own_cluster, EVENTS)) == []  # type: ignore[arg-type]
    assert server.terminate() == 0
    assert alarms(server)[noise:] == []


@pytest.mark.parametrize("database_comes_back", [True, False])
def test_workers_that_start_while_the_database_is_away_wait(
    own_cluster: OwnCluster, data_dir: Path, database_comes_back: bool
) -> None:
    server = eager_process(data_dir.with_name(f"{data_dir.name}-server"), own_cluster.server_url, 2)
    server.start()
    slug, key = server.create_org("sealed")
    until(lambda: len(server.workers()) == 2)
    own_cluster.stop()
    for worker in server.workers():
        os.kill(worker, signal.SIGKILL)
    until(lambda: server.log.read_text().count("a worker waits for the database") == 2)
    if database_comes_back:
        own_cluster.start()
        with Load(server.url, slug, key, bare=0).running() as load:
            load.wait_for(ENTRIES)
    assert server.terminate() == 0


@pytest.mark.parametrize("seconds", [0.7, slow(1.5), 2.5, slow(3.5), slow(4.5)])
def test_a_server_whose_workers_start_meanwhile_ends(
    own_cluster: OwnCluster, data_dir: Path, seconds: float
) -> None:
    server = eager_process(data_dir.with_name(f"{data_dir.name}-server"), own_cluster.server_url, 2)
    server.start()
    until(lambda: len(server.workers()) == 2)
    own_cluster.stop()
    dead = server.workers()
    for worker in dead:
        os.kill(worker, signal.SIGKILL)
    until(lambda: len(set(server.workers()) - set(dead)) == 2)
    time.sleep(seconds)  # while they import what they need, or already wait
    assert server.terminate() == 0


@pytest.mark.slow
def test_two_machines_that_are_restarted_in_turn(database: Database, data_dir: Path) -> None:
    first = eager_process(data_dir, database.server_url)
    first.start()
    slug, key = first.create_org("sealed")
    other_dir = data_dir.with_name(f"{data_dir.name}-other")
    other_dir.mkdir(mode=0o700)
    until((data_dir / "log-keys.json").exists, "the log keys")
    shutil.copy(data_dir / "log-keys.json", other_dir)
    second = eager_process(other_dir, database.server_url)
    second.settings(QUIRE_ARCHIVE_URL=data_dir.with_name(f"{data_dir.name}-archive").as_uri())
    second.start()
    with (
        Load(first.url, slug, key, bare=0).running() as one,
        Load(second.url, slug, key, bare=0).running() as two,
    ):
        for server, load in ((first, two), (second, one)):
            load.wait_for(ENTRIES)
            assert server.terminate() == 0
            load.wait_for(ENTRIES)
            server.start()
            one.wait_for(ENTRIES)
            two.wait_for(ENTRIES)
    signed = "SELECT max(size) FROM checkpoints WHERE org_id <> 0"
    length = "SELECT max(seq) + 1 FROM heads WHERE org_id <> 0"
    until(
        lambda: blocking(fetch(database, signed)) == blocking(fetch(database, length)),
        "all is signed",
    )
    for server in (first, second):
        no_metric(server)
        assert_no_alarm(server, database)
        assert server.terminate() == 0
        assert alarms(server) == []


@pytest.mark.slow
def test_killed_processes_of_a_server(database: Database, data_dir: Path) -> None:
    server = eager_process(data_dir, database.server_url, 2)
    server.start()
    slug, key = server.create_org("sealed")
    with Load(server.url, slug, key, bare=0).running() as load:
        for name in ("worker", *BESIDE):
            load.wait_for(ENTRIES)
            before = _running(server, name)
            os.kill(before[0], signal.SIGTERM)
            until(partial(_replaced, server, name, before), f"a {name} runs again")
            load.wait_for(ENTRIES)
    no_metric(server)
    assert_no_alarm(server, database)
    assert server.terminate() == 0
    assert alarms(server) == []


def _running(server: QuireProcess, name: str) -> list[int]:
    return server.workers() if name == "worker" else server.beside(name)


def _replaced(server: QuireProcess, name: str, before: list[int]) -> bool:
    now = _running(server, name)
    return len(now) == len(before) and before[0] not in now
