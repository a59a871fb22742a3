"""Fixtures: a real server on a fresh database, with an org and its admin key."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.clusters import Cluster, Database
from tests.support.serving import Server, start_server

StartServer = Callable[..., Server]


def _with_org(server: Server, privacy: str = "sealed") -> Server:
    server.org, server.admin_key = server.create_org(privacy)
    return server


@pytest.fixture
def server(database: Database, data_dir: Path) -> Iterator[Server]:
    """A server of its own for one test; `.org` is a sealing org."""
    running = _with_org(start_server(database, data_dir))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def shared_server(postgres_cluster: Cluster, session_dir: Path) -> Iterator[Server]:
    """A server shared by a module's tests, each of which creates its own orgs."""
    database = postgres_cluster.migrated()
    running = _with_org(
        start_server(database, session_dir / uuid4().hex[:8], bundle_wait_seconds=1.0)
    )
    yield running
    running.stop()
    postgres_cluster.drop(database)


@pytest.fixture
def start_servers(database: Database, session_dir: Path) -> Iterator[StartServer]:
    """Start several servers on one fresh database, with settings given by field name."""
    running: list[Server] = []
    first_dir = session_dir / uuid4().hex[:8]

    def start_one(**changes: Any) -> Server:
        server = start_server(database, first_dir, **changes)
        running.append(server)
        return server

    yield start_one
    for server in running:
        server.stop()
