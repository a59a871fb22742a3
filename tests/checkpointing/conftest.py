"""A database that a module's tests tamper with, each an org of its own."""

from collections.abc import Iterator

import pytest

from tests.support.clusters import Cluster, Database


@pytest.fixture(scope="module")
def module_database(postgres_cluster: Cluster) -> Iterator[Database]:
    """A migrated database for one module."""
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)
