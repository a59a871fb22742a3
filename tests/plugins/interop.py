"""Fixtures: a log written by this server, and independent clients of logs.

Tests of the served log carry `xdist_group("served_log")`, so that one worker process writes it.
"""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.clusters import Cluster
from tests.support.go_toolchain import build
from tests.support.served_log import ServedLog, served_log
from tests.support.serving import start_server


@pytest.fixture(scope="session", name="served_log")
def _served_log(postgres_cluster: Cluster, session_dir: Path) -> Iterator[ServedLog]:
    """A public log of 1,000 entries with six checkpoints, over HTTP."""
    database = postgres_cluster.migrated()
    directory = session_dir / uuid4().hex[:8]
    server = start_server(database, directory)
    yield served_log(server, directory)
    server.stop()
    postgres_cluster.drop(database)


@pytest.fixture(scope="session")
def logchecker(session_dir: Path) -> Path:
    """The compiled log client in Go."""
    return build(Path(__file__).parents[1] / "interop" / "logchecker.go", session_dir)
