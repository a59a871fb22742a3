"""Freezes and the register: each is recorded once, but for those of `system` itself."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from ledger.core.register import FaultSeqs, RecordedFreeze, Register
from ledger.errors import OrgFrozen
from ledger.sealing import row_key
from tests.support.clusters import Database
from tests.support.orgs import MASTER_KEY, at_work
from tests.support.trails import RING
from tests.support.waiting import PATIENCE_S

SYSTEM = "(SELECT id FROM orgs WHERE slug = 'system')"
DAMAGED_HEADS = {"hash": "entry_hash = sha256('x')", "seq": "seq = seq - 1"}


async def as_server(database: Database, statement: str) -> None:
    """Run a statement with the rights of the server's role."""
    connection = await asyncpg.connect(database.server_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("damage", DAMAGED_HEADS.values(), ids=DAMAGED_HEADS.keys())
async def test_a_damaged_head_of_system_is_frozen_once(database: Database, damage: str) -> None:
    """A freeze of `system` can't be recorded in `system`: it was tried again without end."""
    async with at_work(database) as (_, work):
        await work.create_org("org", "Org", "plain")
    await as_server(database, f"UPDATE heads SET {damage} WHERE org_id = {SYSTEM}")
    async with at_work(database) as (opened, work):
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(OrgFrozen):
                await work.create_org("another", "Org", "plain")
        events = await opened.fetch("SELECT 1 FROM security_events WHERE kind = 'org_frozen'")
    assert len(events) == 1


async def test_a_freeze_that_stood_in_the_row_before_is_recorded(database: Database) -> None:
    """A planted freeze must not keep a right one out of the register: it could be taken out again."""
    faults = FaultSeqs(1, [3])
    async with at_work(database) as (opened, work):
        org = await work.create_org("org", "Org", "plain")
        head = f"WHERE org_id = {org.id}"
        frozen = "frozen_at = now(), frozen_reason = 'planted'"
        await as_server(database, f"UPDATE heads SET {frozen} {head}")
        for _ in range(2):  # it is found again: no second entry
            await work.sequencer.freezes.freeze(org.id, "org", "1 fault", faults)
        await as_server(database, f"UPDATE heads SET frozen_at = NULL, frozen_reason = NULL {head}")
        register = Register(opened, lambda _: RING, row_key(MASTER_KEY))
        assert await register.open()
        assert register.state.frozen == {org.id: RecordedFreeze("1 fault", faults)}
        row = await opened.fetchrow(f"SELECT seq FROM heads WHERE org_id = {SYSTEM}")
        assert row is not None
        assert row[0] == 2, "system, org, its freeze"
