"""Databases with orgs whose trees are signed."""

from collections.abc import AsyncIterator, Iterator

import pytest

from ledger.core.org import Org
from tests.support.appending import Process, new_org, process
from tests.support.clusters import Cluster, Database


@pytest.fixture(scope="module")
def module_database(postgres_cluster: Cluster) -> Iterator[Database]:
    """A migrated database for one module."""
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)


@pytest.fixture
async def one_org(database: Database) -> AsyncIterator[tuple[Process, Org]]:
    """A sequencer on the test's database, and an org without entries."""
    async with process(database.server_url) as server:
        yield server, await new_org(server.database)
