"""Four worker processes of a server together keep a limit of 100 a minute, within the stated bound."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server.access.limits.gcra import steady
from tests.support.clusters import Database
from tests.support.quire_process import QuireProcess

WORKERS = 4
LIMIT = 100
LOAD_S = 12.0
"""Long enough that four processes which count alone would admit three times the bound."""
PAUSE_S = 0.05
CALLERS = 8
TOLD = re.compile(r'quire_rate_limits_told_seconds_bucket\{le="([\d.]+|\+Inf)"} ([\d.]+)')


def append(server: QuireProcess, org: str, key: str) -> int:
    """Append over a connection of its own, which any of the processes may take."""
    request = urllib.request.Request(
        f"{server.url}/v1/orgs/{org}/entries",
        b'{"n":1}',
        {"x-api-key": key, "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def longest_pause_s(server: QuireProcess) -> float:
    """A bound of the time between two tellings of any process."""
    counts = [(float(bound), float(count)) for bound, count in TOLD.findall(server.metrics())]
    total = max(count for _, count in counts)
    return min(bound for bound, count in counts if count == total)


@pytest.mark.slow
def test_four_processes_keep_a_limit(database: Database, data_dir: Path) -> None:
    server = QuireProcess(data_dir, database.server_url, workers=WORKERS)
    server.settings(QUIRE_KEY_APPEND_PER_MINUTE=str(LIMIT))
    server.start()
    try:
        org, key = server.create_org("plain")
        began = time.monotonic()

        def load(_: int) -> int:
            admitted = 0
            while time.monotonic() < began + LOAD_S:
                status = append(server, org, key)
                assert status in {201, 429}
                admitted += status == 201
                time.sleep(PAUSE_S)
            return admitted

        with ThreadPoolExecutor(CALLERS) as callers:
            admitted = sum(callers.map(load, range(CALLERS)))
        elapsed_s = time.monotonic() - began
        pause_s = longest_pause_s(server)
    finally:
        server.terminate()
    rate, a_second = steady(LIMIT), LIMIT / 60
    alone = rate.burst + a_second * elapsed_s
    assert admitted <= alone + (WORKERS - 1) * (rate.burst + a_second * pause_s)
    assert admitted >= a_second * elapsed_s / 2
