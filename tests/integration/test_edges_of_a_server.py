"""`quire serve` with several workers: its private listener, and the proxies of its environment."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clusters import Database
from tests.support.proxy_trap import Trap, proxy_trap
from tests.support.quire_process import QuireProcess
from tests.support.waiting import until


@pytest.fixture
def served(database: Database, data_dir: Path) -> Iterator[tuple[QuireProcess, int, Trap]]:
    """A server of two workers, the port of its private listener, and the proxy of its environment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with proxy_trap() as trap:
        server = QuireProcess(data_dir, database.server_url, workers=2)
        proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), trap.url)
        server.settings(**proxies, no_proxy="", NO_PROXY="", QUIRE_METRICS_PORT=str(port))
        server.start()
        yield server, port, trap
        assert server.terminate() == 0


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_banner_appears_and_nothing_is_sent_to_a_proxy(
    served: tuple[QuireProcess, int, Trap],
) -> None:
    server, port, trap = served
    until(lambda: f"Quire serves {server.url}" in server.log.read_text())
    assert trap.seen == []
    for _ in range(10):  # each connection may be another worker's
        assert status(f"http://127.0.0.1:{port}/metrics") == 200
        assert status(f"http://127.0.0.1:{port}/v1/log/keys") == 404
        assert status(f"{server.url}/metrics") == 401
    assert "\nquire_unsigned_entries " in server.metrics()
