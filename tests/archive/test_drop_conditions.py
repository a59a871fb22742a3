"""The database refuses to drop a month, even to the login of retention, unless its conditions hold."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from ledger.archive.targets import Target
from ledger.errors import RetentionRefused
from ledger.storage import dropped_months
from ledger.storage.entries import months
from tests.support import blocks
from tests.support.appending import process, rows_of
from tests.support.archives import ROW_KEY, SignedTrail
from tests.support.retaining import (
    FEBRUARY,
    JANUARY,
    append_three_months,
    append_to_system,
    set_retention,
)
from tests.support.trails import ORG_ID


async def recorded(archived_trail: SignedTrail, folder: Target, /, **changes: Any) -> int:
    """Append the system entry that records the drop of January, with changes; returns its seq."""
    (held,) = await months.ranges(archived_trail.server, JANUARY)
    one = {
        "org_id": ORG_ID,
        "first_seq": held.first_seq,
        "last_seq": held.last_seq,
        "last_hash": held.last_hash.hex(),
    }
    event = {
        "event_type": "quire.partition_dropped",
        "action": "drop",
        "month": "2026-01",
        "target": folder.url,
        "orgs": [one],
        **changes,
    }
    if "orgs" not in changes:
        event["orgs"] = [{**one, **{name: value for name, value in changes.items() if name in one}}]
    async with process(archived_trail.database.server_url) as running:
        return await append_to_system(running, archived_trail, event)


async def drop(archived_trail: SignedTrail, target: Target, record: int) -> int | None:
    """Drop January as after a read-back that found every entry archived."""
    held = await months.ranges(archived_trail.server, JANUARY)
    url = archived_trail.database.retention_url
    return await months.drop(url, JANUARY, target.url, record, held, ROW_KEY)


async def refused(archived_trail: SignedTrail, target: Target, record: int, why: str) -> None:
    before = await rows_of(archived_trail.database, ORG_ID)
    with pytest.raises(RetentionRefused, match=why):
        await drop(archived_trail, target, record)
    assert await rows_of(archived_trail.database, ORG_ID) == before
    assert await dropped_months.live_from(archived_trail.server, ORG_ID) == 0


async def test_all_conditions_hold(archived_trail: SignedTrail, folder: Target) -> None:
    await append_three_months(archived_trail, folder, 30, 5)
    await set_retention(archived_trail, 1)
    record = await recorded(archived_trail, folder)
    assert await drop(archived_trail, folder, record) == 30
    assert await drop(archived_trail, folder, record) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"event_type": "quire.something_else"}, "no entry of the trail"),
        ({"month": "2026-02"}, "no entry of the trail"),
        ({"target": "file:///elsewhere"}, "no entry of the trail"),
        ({"orgs": []}, "the record says something else of org 7"),
        ({"last_seq": 28}, "the record says something else of org 7"),
        ({"last_hash": "00" * 32}, "the record says something else of org 7"),
    ],
)
async def test_the_record_must_name_the_dropped_entries(
    archived_trail: SignedTrail, folder: Target, changes: dict[str, Any], why: str
) -> None:
    await append_three_months(archived_trail, folder, 30, 5)
    await set_retention(archived_trail, 1)
    await refused(archived_trail, folder, await recorded(archived_trail, folder, **changes), why)


async def test_an_entry_of_another_trail_is_no_record(
    archived_trail: SignedTrail, folder: Target
) -> None:
    await append_three_months(archived_trail, folder, 30, 5)
    await set_retention(archived_trail, 1)
    await refused(archived_trail, folder, 31, "no entry of the trail")


async def test_the_month_must_be_archived(archived_trail: SignedTrail, folder: Target) -> None:
    await append_three_months(archived_trail, folder, 30, 5)
    await set_retention(archived_trail, 1)
    record = await recorded(archived_trail, folder)
    await archived_trail.superuser.execute("DELETE FROM archived WHERE org_id = $1", ORG_ID)
    await refused(archived_trail, folder, record, "entries of org 7 are not archived")


async def test_the_policy_must_allow_it(archived_trail: SignedTrail, folder: Target) -> None:
    await append_three_months(archived_trail, folder, 30, 5)
    await set_retention(archived_trail, 1_000)
    await refused(
        archived_trail, folder, await recorded(archived_trail, folder), "the policy keeps it"
    )


async def test_the_month_must_be_sealed(archived_trail: SignedTrail, folder: Target) -> None:
    await append_three_months(archived_trail, folder, 30, 5)
    await set_retention(archived_trail, 1)
    record = await recorded(archived_trail, folder)
    await archived_trail.superuser.execute(
        f"ALTER TABLE {blocks.partition(2026, 1)} DISABLE TRIGGER sealed"
    )
    await refused(archived_trail, folder, record, "it is not sealed")


async def test_the_month_must_not_contain_a_head(
    archived_trail: SignedTrail, folder: Target
) -> None:
    await append_three_months(archived_trail, folder, 30)
    await set_retention(archived_trail, 1)
    await refused(
        archived_trail, folder, await recorded(archived_trail, folder), "the head of org 7 is in it"
    )


async def test_the_month_must_be_the_oldest_and_complete(
    archived_trail: SignedTrail, folder: Target
) -> None:
    await append_three_months(archived_trail, folder, 30, 5, 5)
    await set_retention(archived_trail, 1)
    with pytest.raises(RetentionRefused, match="an older month is still there"):
        await months.drop(
            archived_trail.database.retention_url, FEBRUARY, folder.url, 0, [], ROW_KEY
        )
    record = await recorded(archived_trail, folder)
    await blocks.remove(archived_trail.superuser, ORG_ID, 7)
    await refused(archived_trail, folder, record, "departed_whole")
    await blocks.remove(archived_trail.superuser, ORG_ID, 0, 6)
    await refused(archived_trail, folder, record, "entries of org 7 before it are missing")


async def test_the_server_s_role_changes_neither_policy_nor_account(
    archived_trail: SignedTrail, folder: Target
) -> None:
    await append_three_months(archived_trail, folder, 3)
    with pytest.raises(RetentionRefused, match="only the owner"):
        await dropped_months.set_keep_months(archived_trail.database.server_url, 1)
    connection = await asyncpg.connect(archived_trail.database.server_url)
    try:
        for statement in (
            "INSERT INTO departed SELECT 7, 0, 1, 2, now(), now(), '', now()::date, '', 0",
            "DELETE FROM departed",
            f"DROP TABLE {blocks.partition(2026, 1)}",
            f"ALTER TABLE {blocks.TABLE} DETACH PARTITION {blocks.partition(2026, 1)}",
            "UPDATE anchor_leaves SET org_id = 7",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
