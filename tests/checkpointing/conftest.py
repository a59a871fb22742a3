"""Fixture: an org on a database of the test's own."""

from collections.abc import AsyncIterator

import pytest

from ledger.core.org import OrgFacts
from tests.support.appending import Process, new_org, process
from tests.support.clusters import Database


@pytest.fixture
async def one_org(database: Database) -> AsyncIterator[tuple[Process, OrgFacts]]:
    """A sequencer on the test's database, and an empty org."""
    async with process(database.server_url) as server:
        yield server, await new_org(server.database)
