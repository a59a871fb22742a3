"""The trail is written once: privileges refuse changes by the server role, triggers by the owner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from ledger.core.org import OrgFacts
from ledger.storage import partitions
from tests.support.appending import Process, new_org, process, sound_trail
from tests.support.blocks import TABLE, WORM_CHANGES, WORM_INSERT, partition
from tests.support.clusters import Database

BEYOND_SERVER = [
    "ALTER TABLE {} DISABLE TRIGGER ALL",
    "DROP TABLE {} CASCADE",
    "BEGIN; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
    "CREATE TRIGGER mine BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION quire_refuse_change()",
]
MARCH = partition(2026, 3)
TABLES = [TABLE, MARCH]


@pytest.fixture
async def filled_org(database: Database) -> AsyncIterator[OrgFacts]:
    """An org with entries in the partition of March 2026, which a later test seals."""
    moment_us = int(datetime(2026, 3, 10, tzinfo=UTC).timestamp() * 1_000_000)
    async with process(database.server_url, clock=lambda: moment_us) as one:
        org = await new_org(one.database)
        await one.append(org, b"a", b"b")
    yield org
    assert await sound_trail(database, org) == [b"a", b"b"]


async def refused(url: str, statement: str) -> asyncpg.PostgresError:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError) as error:
            await connection.execute(statement)
    finally:
        await connection.close()
    return error.value


@pytest.mark.usefixtures("filled_org")
async def test_the_server_role_has_no_right_to_change_the_trail(database: Database) -> None:
    for table in TABLES:
        for statement in (*WORM_CHANGES, *BEYOND_SERVER):
            error = await refused(database.server_url, statement.format(table))
            assert "append-only" not in str(error), "a privilege was granted"


@pytest.mark.usefixtures("filled_org")
async def test_the_owner_is_refused_by_trigger(database: Database) -> None:
    for url in (database.owner_url, database.superuser_url):
        for table in TABLES:
            for statement in WORM_CHANGES:
                error = await refused(url, statement.format(table))
                assert "the trail is append-only" in str(error), statement


@pytest.mark.usefixtures("filled_org")
async def test_a_sealed_partition_takes_no_insert(database: Database) -> None:
    await partitions.retire(database.retention_url, datetime.now(UTC), 7)
    for table in TABLES:
        error = await refused(database.owner_url, WORM_INSERT.format(table))
        assert f"{MARCH} is sealed" in str(error)
    error = await refused(database.server_url, WORM_INSERT.format(TABLE))
    assert f"{MARCH} is sealed" in str(error)


async def test_partitions_made_later_are_protected_too(
    database: Database, filled_org: OrgFacts
) -> None:
    later = datetime.now(UTC) + timedelta(days=400)
    async with process(database.server_url) as one:
        await partitions.prepare(one.database, later)
    part = partition(later.year, later.month)
    assert "append-only" in str(await refused(database.owner_url, f"TRUNCATE {part}"))
    assert "append-only" not in str(await refused(database.server_url, f"TRUNCATE {part}"))
    assert "append-only" not in str(await refused(database.server_url, f"DELETE FROM {part}"))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM heads",
        "DELETE FROM orgs",
        "DELETE FROM idempotency",
        "UPDATE idempotency SET body = ''",
        "UPDATE security_events SET detail = ''",
        "DELETE FROM security_events",
        "UPDATE schema_migrations SET checksum = ''",
        "UPDATE subjects SET ref = ''",
        "CREATE TABLE mine (x int)",
    ],
)
async def test_the_server_role_has_no_other_right_it_does_not_need(
    shared_database: Database, first_process: Process, statement: str
) -> None:
    await refused(shared_database.server_url, statement)
