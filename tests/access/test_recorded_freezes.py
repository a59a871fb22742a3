"""Freezes and the register: each is recorded once, but for those of `system` itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from ledger.core.org import OrgFacts
from ledger.core.register import FaultSeqs, RecordedFreeze, Register
from ledger.core.verification.run import TrailRange
from ledger.errors import OrgFrozen
from ledger.sealed_events import SECURITY_EVENTS
from ledger.sealing import row_key
from server.trails.signed.stops import SignerFreezes
from tests.support.acting_process import Office, office
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


STOP = """
WITH stopped AS (
    INSERT INTO trees (org_id, size, root, stopped_at, stopped_reason)
    VALUES ($1, 0, '', now(), $2)
    ON CONFLICT (org_id) DO UPDATE SET stopped_at = now(), stopped_reason = excluded.stopped_reason)
UPDATE heads SET frozen_at = now(), frozen_reason = 'checkpoints stopped: ' || $2
WHERE org_id = $1"""
UNFREEZE = "UPDATE heads SET frozen_at = NULL, frozen_reason = NULL"


async def stop_as_signer(database: Database, org_id: int, doubt: str) -> None:
    """Do what the signer does when it stops a tree."""
    connection = await asyncpg.connect(database.signer_url)
    try:
        await connection.execute(STOP, org_id, doubt)
    finally:
        await connection.close()


async def refused(at: Office, org: OrgFacts) -> bool:
    """Whether an append is refused after the head row's columns were taken out."""
    await as_server(at.cluster, f"{UNFREEZE} WHERE org_id = {org.id}")
    try:
        await at.append(org, "anna")
    except OrgFrozen:
        return True
    return False


@pytest.mark.parametrize("removed_first", [False, True])
async def test_no_head_row_undoes_a_freeze_by_the_signer(
    database: Database, tmp_path: Path, removed_first: bool
) -> None:
    async with office(database, tmp_path) as at:
        org = await at.new_org()
        await stop_as_signer(database, org.id, "trail_shortened: it is shorter")
        if removed_first:
            assert not await refused(at, org), "the row alone said so"
        freezes = SignerFreezes(at.database, at.work.register, at.work.sequencer)
        for _ in range(2):
            await freezes.record()
            assert await refused(at, org)
        assert (await at.recorded()).freeze_of(org.id) is not None
        await at.guard.thaw(org, "looked at", "key")
        await freezes.record()
        await at.append(org, "anna")
        await stop_as_signer(database, org.id, "history_rewritten: it is another")
        await freezes.record()
        assert await refused(at, org), "another doubt"


@pytest.mark.parametrize(
    "doubt", ["unknown_key: no key", "trail_shortened (not frozen yet): short"]
)
async def test_a_tree_that_stopped_without_a_freeze_freezes_nothing(
    database: Database, tmp_path: Path, doubt: str
) -> None:
    async with office(database, tmp_path) as at:
        org = await at.new_org()
        await stop_as_signer(database, org.id, doubt)
        await SignerFreezes(at.database, at.work.register, at.work.sequencer).record()
        assert not await refused(at, org)


async def test_an_accepted_loss_is_not_frozen_again_before_it_is_signed(
    database: Database, tmp_path: Path
) -> None:
    async with office(database, tmp_path) as at:
        org = await at.new_org()
        await at.lose(org, 2)
        await stop_as_signer(database, org.id, "trail_shortened: it is shorter")
        freezes = SignerFreezes(at.database, at.work.register, at.work.sequencer)
        await freezes.record()
        await at.losses.accept(org, "the disk was lost")
        await freezes.record()
        await at.append(org, "anna")


async def test_events_that_lost_entries_sealed_are_sealed_again(
    database: Database, tmp_path: Path
) -> None:
    async with office(database, tmp_path) as at:
        org = await at.new_org()
        await at.add_event(org)
        assert await at.sealing.seal(org.id) == 1
        await at.lose(org, 3)
        await at.losses.accept(org, "the disk was lost")
        assert SECURITY_EVENTS not in await at.kinds(org)
        assert await at.sealing.seal(org.id) >= 1
        assert await at.sealing.seal(org.id) == 0
        assert (await at.kinds(org)).count(SECURITY_EVENTS) == 1


async def test_a_restored_org_is_registered_with_what_came_back(
    database: Database, tmp_path: Path
) -> None:
    async with office(database, tmp_path) as at:
        org = await at.new_org()
        await at.work.restored(org.slug)
        assert (await at.recorded()).state.restored == {}, "its row was put back by an operator"
        await at.work.restored(org.slug, from_archive=True)
        await at.append(org, "anna")
        assert (await at.recorded()).state.restored == {org.id: 4}
        assert await at.work.register.store_snapshot()
        assert (await at.recorded()).state.restored == {org.id: 4}
        trust = await at.sealing.trust(TrailRange(org.id, org.slug))
        assert trust.restored == 4


async def test_a_freeze_of_system_by_the_signer_comes_back(
    database: Database, tmp_path: Path
) -> None:
    """It can't be recorded in `system`; the stopped tree is looked at again."""
    async with office(database, tmp_path) as at:
        org = await at.new_org()
        assert at.work.register.system_id is not None
        await stop_as_signer(database, at.work.register.system_id, "trail_shortened: shorter")
        freezes = SignerFreezes(at.database, at.work.register, at.work.sequencer)
        await as_server(database, UNFREEZE)
        await freezes.record()
        with pytest.raises(OrgFrozen):
            await at.work.create_org("another", "Org", "plain")
        await at.append(org, "anna")
