"""Only the login of retention seals and drops, within bounds, and only what was read back."""

from __future__ import annotations

import json

import asyncpg
import pytest

from ledger.archive.targets import Target
from ledger.errors import RetentionRefused
from ledger.storage.entries import months
from ledger.storage.entries.months import DroppedRange
from tests.support import blocks
from tests.support.appending import process, rows_of
from tests.support.archives import ROW_KEY, SignedTrail
from tests.support.clusters import Database
from tests.support.retaining import (
    JANUARY,
    append_three_months,
    append_to_system,
    retaining,
    set_retention,
)
from tests.support.trails import ORG_ID

DESTRUCTIVE = (
    "SELECT quire_drop_entries_partition('2026-01-10Z', 'file:///nowhere', 1, '[]')",
    "SELECT quire_seal_partitions(now())",
    "SELECT quire_drop_idempotency_before(current_date)",
    "SELECT quire_add_entries_month('2026-01-10Z')",
)
BECOMING = ("SET ROLE quire_retention", "SET SESSION AUTHORIZATION quire_retention")
FAR = ("10000-01-01Z", "2026-06-10Z BC", "infinity", "-infinity", "1970-01-01Z", "2199-01-01Z")


async def test_planted_rows_drop_no_month(archived_trail: SignedTrail, folder: Target) -> None:
    """Attack A4: an org, an entry and an account of the archive, all planted by the server's role."""
    await append_three_months(archived_trail, folder, 30, 5)
    await set_retention(archived_trail, 1)
    before = await rows_of(archived_trail.database, ORG_ID)
    (held,) = await months.ranges(archived_trail.server, JANUARY)
    record = await recorded(archived_trail, "file:///nowhere")
    connection = await asyncpg.connect(archived_trail.database.server_url)
    try:
        await connection.execute(
            "INSERT INTO archived (target, org_id, size, leaves, root, objects, bytes, archived_at, mac) "
            "VALUES ('file:///nowhere', $1, $2, 0, decode(repeat('00', 32), 'hex'), 0, 0, now(), '')",
            ORG_ID,
            held.last_seq + 1,
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(
                "SELECT quire_drop_entries_partition('2026-01-10Z', 'file:///nowhere', $1, $2)",
                record,
                json.dumps([told_of(held)]),
            )
    finally:
        await connection.close()
    assert await rows_of(archived_trail.database, ORG_ID) == before


@pytest.mark.parametrize("statement", [*DESTRUCTIVE, *BECOMING])
async def test_the_server_s_role_neither_destroys_nor_becomes_the_one_that_does(
    database: Database, statement: str
) -> None:
    connection = await asyncpg.connect(database.server_url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        f"SELECT * FROM {blocks.TABLE}",
        "SELECT * FROM subjects",
        "INSERT INTO departed SELECT 7, 0, 1, 2, now(), now(), '', now()::date, '', 0",
        "UPDATE retention SET keep_months = 1",
        "SELECT quire_create_entries_partition(now())",
    ],
)
async def test_the_login_of_retention_does_nothing_else(database: Database, statement: str) -> None:
    connection = await asyncpg.connect(database.retention_url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("at", FAR)
async def test_partitions_are_created_near_the_present_only(database: Database, at: str) -> None:
    connection = await asyncpg.connect(database.server_url)
    try:
        names = await blocks.partitions(connection)
        for function, kind in (
            ("quire_create_entries_partition", "timestamptz"),
            ("quire_create_idempotency_partition", "date"),
        ):
            with pytest.raises(asyncpg.InvalidParameterValueError, match="no partition"):
                await connection.execute(f"SELECT {function}('{at}'::timestamptz::{kind})")
        assert await blocks.partitions(connection) == names
    finally:
        await connection.close()


async def test_a_month_far_ahead_does_not_keep_older_ones(
    archived_trail: SignedTrail, folder: Target
) -> None:
    """As text, the name of January 10000 is before that of January 2026."""
    await append_three_months(archived_trail, folder, 30, 5)
    await set_retention(archived_trail, 1)
    far = blocks.partition(10_000, 1)
    await archived_trail.superuser.execute(
        f"CREATE TABLE {far} PARTITION OF {blocks.TABLE} "
        "FOR VALUES FROM ('10000-01-01Z') TO ('10000-02-01Z')"
    )
    async with retaining(archived_trail, folder) as retention:
        dropped = await retention.run()
    assert [one.month for one in dropped][:1] == [JANUARY]


async def test_a_month_before_christ_is_not_that_of_the_same_name(
    archived_trail: SignedTrail, folder: Target
) -> None:
    await append_three_months(archived_trail, folder, 30, 5)
    await set_retention(archived_trail, 1)
    connection = await asyncpg.connect(archived_trail.database.retention_url)
    try:
        dropped = await connection.fetchval(
            "SELECT quire_drop_entries_partition('2026-01-10Z BC', $1, 1, '[]')", folder.url
        )
    finally:
        await connection.close()
    assert dropped is None
    assert len(await rows_of(archived_trail.database, ORG_ID)) == 35


async def test_the_trail_s_own_record_is_no_read_back(
    archived_trail: SignedTrail, folder: Target
) -> None:
    """The login of retention names what it read back; an entry that says more decides nothing."""
    await append_three_months(archived_trail, folder, 30, 5)
    await set_retention(archived_trail, 1)
    (held,) = await months.ranges(archived_trail.server, JANUARY)
    record = await recorded(archived_trail, folder.url)
    url = archived_trail.database.retention_url
    with pytest.raises(RetentionRefused, match="was not read back from the archive"):
        await months.drop(url, JANUARY, folder.url, record, [], ROW_KEY)
    less = held._replace(last_seq=held.last_seq - 1)
    with pytest.raises(RetentionRefused, match="was not read back from the archive"):
        await months.drop(url, JANUARY, folder.url, record, [less], ROW_KEY)


async def recorded(trail: SignedTrail, target: str) -> int:
    """Append the entry that records the drop of January."""
    (held,) = await months.ranges(trail.server, JANUARY)
    event = {
        "event_type": "quire.partition_dropped",
        "action": "drop",
        "month": "2026-01",
        "target": target,
        "orgs": [told_of(held)],
    }
    async with process(trail.database.server_url) as running:
        return await append_to_system(running, trail, event)


def told_of(held: DroppedRange) -> dict[str, int | str]:
    """What an entry says of the dropped entries of one org."""
    return {
        "org_id": held.org_id,
        "first_seq": held.first_seq,
        "last_seq": held.last_seq,
        "last_hash": held.last_hash.hex(),
    }
