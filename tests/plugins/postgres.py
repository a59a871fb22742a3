"""Fixtures: a real PostgreSQL, the embedded one with its production settings."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from server.embedded import EmbeddedPostgres
from tests.support import other_postgres, reaper
from tests.support.clusters import Cluster, Database, OwnCluster

other_postgres.use_named()


def pytest_report_header() -> str | None:
    """Report which PostgreSQL the clusters run, if it is not the usual one."""
    major = other_postgres.named_major()
    return None if major is None else f"PostgreSQL {major}, from TEST_POSTGRES_BIN"


@pytest.fixture(scope="session")
def session_dir() -> Iterator[Path]:
    """A directory with a short path that PostgreSQL's user can enter; removed with its processes."""
    # Not tmp_path: it has mode 0700, and its path is too long for the socket.
    directory = Path(tempfile.mkdtemp(prefix="quire-"))
    directory.chmod(0o711)
    with subprocess.Popen(
        [sys.executable, "-I", reaper.__file__, str(directory)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    ) as reaping:
        yield directory
        assert reaping.stdin is not None
        reaping.stdin.close()


@pytest.fixture
def data_dir(session_dir: Path) -> Path:
    """Path of a data directory that does not exist yet.

    Every process with this path on its command line or in its environment (`quire serve
    --data-dir …`, PostgreSQL) is killed when the session ends.
    """
    return session_dir / uuid4().hex[:8]


@pytest.fixture(scope="session")
def postgres_cluster(session_dir: Path) -> Cluster:
    """One PostgreSQL for the session (one per worker process under xdist)."""
    postgres = EmbeddedPostgres(session_dir / "shared")
    postgres.start()
    return Cluster(postgres)


@pytest.fixture
def database(postgres_cluster: Cluster) -> Iterator[Database]:
    """A fresh database with all migrations applied."""
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)


@pytest.fixture(scope="module")
def database_of_module(postgres_cluster: Cluster) -> Iterator[Database]:
    """A migrated database for one module's tests, which may tamper with it one after another."""
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)


@pytest.fixture
def empty_database(postgres_cluster: Cluster) -> Iterator[Database]:
    """A fresh database with the two roles, before any migration."""
    database = postgres_cluster.empty()
    yield database
    postgres_cluster.drop(database)


@pytest.fixture(scope="session")
def template_cluster(session_dir: Path) -> Path:
    """The files of a stopped PostgreSQL with the migrated database `quire`: initdb is dear."""
    cluster = OwnCluster(session_dir / "template")
    cluster.start()
    cluster.provide()
    cluster.stop()
    return cluster.postgres.data


@pytest.fixture
def own_cluster(template_cluster: Path, data_dir: Path) -> Iterator[OwnCluster]:
    """A private PostgreSQL, to be killed, with the migrated database `quire`, on TCP and a socket."""
    cluster = OwnCluster(data_dir, template_cluster)
    cluster.start()
    yield cluster
    cluster.stop()
