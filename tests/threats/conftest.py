"""A server behind a proxy, whose callers come from the addresses that a test names."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.blocked_callers import Gate, start_gate
from tests.support.clusters import Cluster


@pytest.fixture(scope="module")
def gate(postgres_cluster: Cluster, session_dir: Path) -> Iterator[Gate]:
    """A server for the tests of a module, each of which blocks addresses of its own."""
    database = postgres_cluster.migrated()
    made = start_gate(database, session_dir)
    yield made
    made.server.stop()
    postgres_cluster.drop(database)
