"""The short form of `make soak`: each way of attack leaves nothing, and others are served meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.soak.running import SHORT, WAYS, Soak
from tests.support.clusters import Cluster
from tests.support.quire_process import QuireProcess

GENEROUS: float = 500.0
"""The suite runs beside others: only a server that stands still is slower by so much."""


@pytest.fixture(scope="module")
def soak(postgres_cluster: Cluster, session_dir: Path) -> Iterator[Soak]:
    database = postgres_cluster.migrated()
    server = QuireProcess(session_dir / "soak", database.server_url)
    server.start()
    try:
        made = Soak(server, SHORT)
        made.prepare()
        yield made
    finally:
        server.terminate()
        postgres_cluster.drop(database)


@pytest.mark.parametrize("way", WAYS)
def test_others_are_served_and_nothing_is_left(soak: Soak, way: str) -> None:
    result = soak.run(way)
    assert len(result.attacked.append_ms) >= 10
    assert result.faults(GENEROUS) == []
