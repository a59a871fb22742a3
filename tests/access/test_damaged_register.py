"""Where the trail `system` was changed, no row counts that the changed entries may be about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from ledger.core.register import NOT_AUTHENTIC, ORGS, Register
from ledger.sealing import row_key
from ledger.storage import database as storage
from ledger.storage import orgs
from tests.access.test_changes_are_whole import at_work
from tests.support import blocks
from tests.support.appending import superuser
from tests.support.clusters import Database
from tests.support.orgs import MASTER_KEY
from tests.support.trails import RING
from tests.support.waiting import PATIENCE_S

ORGS_MADE = 6
Tamper = Callable[[Any, int], Awaitable[None]]


@pytest.fixture
async def made(database: Database) -> AsyncIterator[storage.Database]:
    """A database with six orgs, each recorded by an entry of its own: seqs 1 to 6."""
    async with at_work(database) as (opened, work):
        for number in range(ORGS_MADE):
            await work.create_org(f"org-{number}", "Org", "plain")
        yield opened


async def known(database: storage.Database, register: Register) -> list[int]:
    """The numbers of the orgs whose rows count."""
    records = [await orgs.org_by_slug(database, f"org-{number}") for number in range(ORGS_MADE)]
    return [
        number
        for number, record in enumerate(records)
        if record is not None and register.knows(ORGS, record.slug, record.mac)
    ]


async def opened(database: storage.Database) -> Register:
    register = Register(database, lambda _: RING, row_key(MASTER_KEY))
    assert await register.open()
    return register


async def edit_payload(connection: asyncpg.Connection[Any], org_id: int) -> None:
    await blocks.edit(connection, org_id, 4, payload=lambda _: b"{}")


async def edit_leaf(connection: asyncpg.Connection[Any], org_id: int) -> None:
    await blocks.edit(connection, org_id, 4, leaf=lambda leaf: leaf.replace(b"create", b"revoke"))


async def remove(connection: asyncpg.Connection[Any], org_id: int) -> None:
    await blocks.remove(connection, org_id, 4, 4)


TAMPERINGS = {"payload": edit_payload, "leaf": edit_leaf, "removed": remove}


@pytest.mark.parametrize("tamper", TAMPERINGS.values(), ids=TAMPERINGS.keys())
async def test_rows_older_than_a_changed_entry_do_not_count(
    database: Database, made: storage.Database, tamper: Tamper
) -> None:
    assert await known(made, await opened(made)) == [*range(ORGS_MADE)]
    system = await orgs.org_by_slug(made, "system")
    assert system is not None
    async with superuser(database) as connection:
        await tamper(connection, system.id)
    register = await opened(made)
    assert await known(made, register) == [4, 5]
    await _reported(made, "the trail system was changed")


async def _reported(database: storage.Database, words: str) -> None:
    query = "SELECT 1 FROM security_events WHERE kind = $1 AND detail LIKE $2"
    async with asyncio.timeout(PATIENCE_S):
        while not await database.fetch(query, NOT_AUTHENTIC, f"%{words}%"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_trail_that_was_cut_does_not_bring_older_rows_back(
    database: Database, made: storage.Database
) -> None:
    register = await opened(made)
    assert await register.store_snapshot()
    system = await orgs.org_by_slug(made, "system")
    assert system is not None
    async with superuser(database) as connection:
        await blocks.remove(connection, system.id, 5, 6)
    await register.catch_up()
    assert await known(made, register) == [*range(ORGS_MADE)], "what this process knows stays"
    again = await opened(made)
    assert await known(made, again) == [*range(ORGS_MADE)], "the snapshot is newer"
    await _reported(made, "are gone")
