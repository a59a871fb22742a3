"""A lasting fault: a real server logs its beginning once and its end once."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.clusters import Database, OwnCluster
from tests.support.quire_process import QuireProcess, eager_process
from tests.support.waiting import until

ROUNDS = 4
"""The least number of repetitions of a fault; the log line about its end states the number."""


def lines(server: QuireProcess) -> list[dict[str, Any]]:
    """The server's log lines, without the banner."""
    text = server.log.read_text().splitlines()
    return [json.loads(line) for line in text if line.startswith("{")]


def times(server: QuireProcess, event: str) -> int:
    """The number of log lines with this event."""
    return Counter(line["event"] for line in lines(server))[event]


def last(server: QuireProcess, event: str) -> dict[str, Any]:
    return [line for line in lines(server) if line["event"] == event][-1]


def append(server: QuireProcess, slug: str, key: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"x-api-key": key, "content-type": "application/json"}
    connection.request("POST", f"/v1/orgs/{slug}/entries", '{"action":"approve"}', headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def rounds(server: QuireProcess, event: str, over: str, mend: Callable[[], Any]) -> None:
    """Check that a repeated fault is logged once; mend it, and check that its end is logged."""
    until(lambda: times(server, event), event)
    time.sleep(ROUNDS + 2)  # the signer runs a round every second
    assert times(server, event) == 1
    mend()
    until(lambda: times(server, over), over)
    end = last(server, over)
    assert end["times"] >= ROUNDS
    assert end["lasted_seconds"] >= ROUNDS - 1
    assert end["level"] in {"warning", "error"}
    assert (times(server, event), times(server, over)) == (1, 1)


@pytest.mark.slow
def test_lost_log_keys(database: Database, data_dir: Path) -> None:
    server = eager_process(data_dir, database.server_url)
    server.start()
    slug, key = server.create_org("plain")
    keys = data_dir / "log-keys.json"
    until(keys.exists, "the log keys")
    assert append(server, slug, key) == 201
    aside = data_dir / "aside.json"
    keys.rename(aside)
    assert append(server, slug, key) == 201
    over = "checkpoints are signed again"
    rounds(server, "checkpoints wait", over, lambda: aside.rename(keys))
    assert server.terminate() == 0


def test_requests_that_are_not_http(database: Database, data_dir: Path) -> None:
    """Such as those of a balancer that checks the health of a plain port with TLS."""
    server = eager_process(data_dir, database.server_url)
    server.settings(QUIRE_CHECKPOINTS="false", QUIRE_ARCHIVE_URL="off")
    server.start()
    for sent in (b"\x16\x03\x01\x02\x00\x01", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n") * 20:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
            line.sendall(sent)
            assert line.recv(65_536).startswith(b"HTTP/1.1 400 ")
    assert times(server, "the HTTP server reports trouble") == 1
    assert server.terminate() == 0


@pytest.mark.slow
def test_an_unreachable_archive_for_all_orgs(database: Database, data_dir: Path) -> None:
    server = eager_process(data_dir, database.server_url)
    server.start()
    orgs = [server.create_org("plain") for _ in range(4)]
    folder = data_dir.with_name(f"{data_dir.name}-archive")
    until(folder.exists, "the archive")
    folder.rename(folder.with_name(f"{folder.name}-aside"))
    for slug, key in orgs:
        assert append(server, slug, key) == 201

    def known(slug: str, key: str) -> bool:
        headers = {"x-api-key": key}
        request = urllib.request.Request(f"{server.url}/v1/orgs/{slug}/archive", headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["problem"] is not None

    for slug, key in orgs:
        until(partial(known, slug, key), "the status says why")
    waits = ("nothing is archived", "archiving waits", "an org is not archived")
    assert sum(times(server, event) for event in waits) == 1
    assert server.terminate() == 0


@pytest.mark.slow
def test_an_unreachable_database(own_cluster: OwnCluster, data_dir: Path) -> None:
    server = eager_process(data_dir.with_name(f"{data_dir.name}-server"), own_cluster.server_url)
    server.start()
    slug, key = server.create_org("plain")
    assert append(server, slug, key) == 201
    own_cluster.stop()

    def loud(event: str) -> Callable[[], bool]:
        return lambda: any(
            line["event"] == event and line["level"] == "warning" for line in lines(server)
        )

    waits = "checkpoints wait for the database"
    until(loud(waits), waits)
    for _ in range(50):
        request = urllib.request.Request(f"{server.url}/v1/orgs/{slug}", headers={"x-api-key": key})
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(request, timeout=60)
    asked = "the database can't serve a request"
    assert times(server, asked) <= 2
    own_cluster.start()
    over = "checkpoints are signed again"
    until(lambda: times(server, over), over)
    assert last(server, over)["times"] >= ROUNDS
    # Once at the first failure, and once when it became lasting; not more often.
    assert max(Counter(line["event"] for line in lines(server)).values()) <= 2
    assert server.terminate() == 0


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a file system of this size at a folder."""
    folder.mkdir(mode=0o711)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=711", "tmpfs", folder], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(file: Path) -> None:
    """Fill the file system to the last byte."""
    with file.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(1 << 16))


def disk_that_is_full(database: Database, data_dir: Path) -> None:
    with small_disk(data_dir, "24m"):
        server = eager_process(data_dir, database.server_url)
        server.start()
        slug, key = server.create_org("plain")
        until((data_dir / "signed.sqlite").exists, "the signer's memory")
        assert append(server, slug, key) == 201
        fill(data_dir / "full")
        for _ in range(3):
            assert append(server, slug, key) == 201  # appends do not wait for the signer
        over = "checkpoints are signed again"
        rounds(server, "checkpoints wait", over, (data_dir / "full").unlink)
        assert server.terminate() == 0


if os.geteuid() == 0:  # only root can mount
    test_a_disk_that_is_full = disk_that_is_full
