"""Fixtures: sequencers in the test's own process, on a database shared by tests with own orgs."""

from collections.abc import AsyncIterator, Iterator

import pytest

from ledger.core.org import OrgFacts
from tests.support.appending import Process, new_org, process
from tests.support.clusters import Cluster, Database


@pytest.fixture(scope="session")
def shared_database(postgres_cluster: Cluster) -> Iterator[Database]:
    """One migrated database for all tests that use only orgs of their own."""
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)


@pytest.fixture
async def first_process(shared_database: Database) -> AsyncIterator[Process]:
    """The sequencer of one server process."""
    async with process(shared_database.server_url) as running:
        yield running


@pytest.fixture
async def second_process(
    shared_database: Database, first_process: Process
) -> AsyncIterator[Process]:
    """The sequencer of a second server process on the same database."""
    async with process(shared_database.server_url) as running:
        yield running


@pytest.fixture
async def org(first_process: Process) -> OrgFacts:
    """A plain org with an empty trail."""
    return await new_org(first_process.database)
