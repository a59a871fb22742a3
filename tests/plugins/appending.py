"""Fixtures: sequencers in the test's own process, on a database shared by tests with own orgs."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ledger.core.org import OrgFacts
from ledger.core.sequencer import HEADS_FILE, AcknowledgedHeads
from tests.support.appending import IDENTITY, Process, new_org, process
from tests.support.clusters import Cluster, Database


@pytest.fixture(scope="session")
def shared_database(postgres_cluster: Cluster) -> Iterator[Database]:
    """One migrated database for all tests that use only orgs of their own."""
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)


@pytest.fixture
def acknowledged(tmp_path: Path) -> Iterator[AcknowledgedHeads]:
    """The file of the heads that the processes of this machine acknowledged, open in one of them."""
    with contextlib.closing(AcknowledgedHeads(tmp_path / HEADS_FILE, IDENTITY)) as heads:
        yield heads


@pytest.fixture
async def first_process(
    shared_database: Database, acknowledged: AcknowledgedHeads
) -> AsyncIterator[Process]:
    """The sequencer of one server process."""
    async with process(shared_database.server_url, memory=acknowledged) as running:
        yield running


@pytest.fixture
async def second_process(
    shared_database: Database, first_process: Process, tmp_path: Path
) -> AsyncIterator[Process]:
    """The sequencer of a second server process of the same machine, on the same database."""
    with contextlib.closing(AcknowledgedHeads(tmp_path / HEADS_FILE, IDENTITY)) as heads:
        async with process(shared_database.server_url, memory=heads) as running:
            yield running


@pytest.fixture
async def org(first_process: Process) -> OrgFacts:
    """A plain org with an empty trail."""
    return await new_org(first_process.database)
