"""Where the trail `system` was changed, no row counts that the changed entries may be about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from itertools import pairwise
from secrets import token_hex
from typing import Any

import asyncpg
import pytest

from ledger.chain import ChainHead
from ledger.core.register import NOT_AUTHENTIC, ORGS, Register, RegisterCut, snapshots
from ledger.core.register.snapshots import SnapshotSchedule
from ledger.sealing import row_key
from ledger.storage import database as storage
from ledger.storage import orgs
from ledger.storage import register as register_storage
from server.access.keys.api_keys import ApiKeys
from server.access.keys.changes import AskedKey, KeyChanges
from tests.support import blocks
from tests.support.appending import superuser
from tests.support.clusters import Database
from tests.support.orgs import MASTER_KEY, at_work
from tests.support.trails import RING
from tests.support.waiting import PATIENCE_S

ORGS_MADE = 6
Tamper = Callable[[Any, int], Awaitable[None]]


@pytest.fixture
async def six_orgs(database: Database) -> AsyncIterator[storage.Database]:
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
    database: Database, six_orgs: storage.Database, tamper: Tamper
) -> None:
    assert await known(six_orgs, await opened(six_orgs)) == [*range(ORGS_MADE)]
    system = await orgs.org_by_slug(six_orgs, "system")
    assert system is not None
    async with superuser(database) as connection:
        await tamper(connection, system.id)
    register = await opened(six_orgs)
    assert await known(six_orgs, register) == [4, 5]
    await _reported(six_orgs, "the trail system was changed")


async def _reported(database: storage.Database, words: str) -> None:
    query = "SELECT 1 FROM security_events WHERE kind = $1 AND detail LIKE $2"
    async with asyncio.timeout(PATIENCE_S):
        while not await database.fetch(query, NOT_AUTHENTIC, f"%{words}%"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_trail_that_was_cut_does_not_bring_older_rows_back(
    database: Database, six_orgs: storage.Database
) -> None:
    register = await opened(six_orgs)
    assert await register.store_snapshot()
    system = await orgs.org_by_slug(six_orgs, "system")
    assert system is not None
    async with superuser(database) as connection:
        await blocks.remove(connection, system.id, 5, 6)
    await register.catch_up()
    assert await known(six_orgs, register) == [*range(ORGS_MADE)], "what this process knows stays"
    again = await opened(six_orgs)
    assert await known(six_orgs, again) == [*range(ORGS_MADE)], "the snapshot is newer"
    await _reported(six_orgs, "are gone")


async def test_a_head_row_that_is_set_back_hides_no_change(database: Database) -> None:
    """The server's role may change head rows: so it six_orgs other processes overlook a revocation."""
    async with at_work(database) as (opened_, work):
        org = await work.create_org("org-0", "Org", "plain")
        key = AskedKey(token_hex(8), org.id, "k", "viewer", b"h" * 32)
        await KeyChanges(work).add(key, "org-0")
        other = Register(opened_, lambda _: RING, row_key(MASTER_KEY))
        assert await other.open()
        found = await ApiKeys(opened_, other).find(key.id)
        assert found is not None
        assert found.is_authentic
        assert await KeyChanges(work).revoke(found, "org-0")
        system = await orgs.org_by_slug(opened_, "system")
        assert system is not None
        attacker = await asyncpg.connect(database.server_url)
        try:
            await attacker.execute("UPDATE heads SET seq = seq - 1 WHERE org_id = $1", system.id)
            await attacker.execute(
                "UPDATE api_keys SET revoked_at = NULL, mac = $2 WHERE id = $1", key.id, found.mac
            )
        finally:
            await attacker.close()
        await other.catch_up()
        again = await ApiKeys(opened_, other).find(key.id)
        assert again is not None
        assert not again.is_authentic


async def plant_after(connection: asyncpg.Connection[Any], org_id: int) -> None:
    await blocks.duplicate(connection, org_id, 6, seq=1_000_000)


async def plant_next(connection: asyncpg.Connection[Any], org_id: int) -> None:
    await blocks.duplicate(connection, org_id, 6, seq=7, payload=b"{}")


async def plant_beside(connection: asyncpg.Connection[Any], org_id: int) -> None:
    await blocks.duplicate(
        connection, org_id, 4, payload=b"{}", anchored_at=lambda at: at - timedelta(microseconds=1)
    )


async def plant_copy(connection: asyncpg.Connection[Any], org_id: int) -> None:
    await blocks.duplicate(
        connection, org_id, 4, anchored_at=lambda at: at + timedelta(microseconds=1)
    )


PLANTED = {"after": plant_after, "next": plant_next, "beside": plant_beside, "copy": plant_copy}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED.keys())
async def test_a_planted_entry_costs_no_row(
    database: Database, six_orgs: storage.Database, plant: Tamper
) -> None:
    system = await orgs.org_by_slug(six_orgs, "system")
    assert system is not None
    running = await opened(six_orgs)
    async with superuser(database) as connection:
        await plant(connection, system.id)
    register = await opened(six_orgs)
    assert await known(six_orgs, register) == [*range(ORGS_MADE)]
    await running.catch_up()
    assert await known(six_orgs, running) == [*range(ORGS_MADE)]
    await _reported(six_orgs, "the trail system was changed")


async def test_a_damaged_newest_entry_costs_the_rows_before_it(
    database: Database, six_orgs: storage.Database
) -> None:
    system = await orgs.org_by_slug(six_orgs, "system")
    assert system is not None
    async with superuser(database) as connection:
        await blocks.edit(connection, system.id, 6, payload=lambda _: b"{}")
    assert await known(six_orgs, await opened(six_orgs)) == []


PLANT_SNAPSHOT = """
INSERT INTO register_snapshots (seq, entry_hash, state, mac)
VALUES ($1, '\\x00', '\\x00', '\\x00')"""


async def test_planted_snapshots_hide_no_right_one(
    database: Database, six_orgs: storage.Database
) -> None:
    register = await opened(six_orgs)
    assert await register.store_snapshot()
    attacker = await asyncpg.connect(database.server_url)
    try:
        for seq in range(20):
            await attacker.execute(PLANT_SNAPSHOT, 10**12 + seq)
    finally:
        await attacker.close()
    system = await orgs.org_by_slug(six_orgs, "system")
    assert system is not None
    async with superuser(database) as connection:  # as a drop of a month does
        await blocks.remove(connection, system.id, 0, 3)
    assert await known(six_orgs, await opened(six_orgs)) == [*range(ORGS_MADE)]


async def test_a_snapshot_whose_place_is_taken_is_not_called_stored(
    database: Database, six_orgs: storage.Database
) -> None:
    register = await opened(six_orgs)
    attacker = await asyncpg.connect(database.server_url)
    try:
        await attacker.execute(PLANT_SNAPSHOT, ORGS_MADE)
    finally:
        await attacker.close()
    assert not await register.store_snapshot(), "no month of the trail may be dropped"


async def test_a_start_is_not_held_up_by_the_head_row_of_system(
    database: Database, six_orgs: storage.Database
) -> None:
    attacker = await asyncpg.connect(database.server_url)
    try:
        await attacker.execute(
            "UPDATE heads SET seq = -1, entry_hash = '', anchored_at = 'epoch' "
            "WHERE org_id = (SELECT id FROM orgs WHERE slug = 'system')"
        )
    finally:
        await attacker.close()
    async with at_work(database) as (_, work):
        assert await known(six_orgs, work.register) == [*range(ORGS_MADE)]


async def test_a_trail_that_was_cut_before_a_start_is_refused(
    database: Database, six_orgs: storage.Database
) -> None:
    """A revoked key would work again: the entry that revoked it is gone, its older row put back."""
    system = await orgs.org_by_slug(six_orgs, "system")
    assert system is not None
    newest = ChainHead(6, b"h" * 32, 0)
    register = Register(six_orgs, lambda _: RING, row_key(MASTER_KEY), lambda _: newest)
    assert await register.open()
    async with superuser(database) as connection:
        await blocks.remove(connection, system.id, 6, 6)
    register = Register(six_orgs, lambda _: RING, row_key(MASTER_KEY), lambda _: newest)
    with pytest.raises(RegisterCut, match="accept-loss system"):
        await register.open()


def reads_of(register: Register, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges of seqs that a register reads from now on."""
    read, ranges = register_storage.entries, list[tuple[int, int]]()

    def counted(database: Any, org_id: int, first: int, last: int) -> Any:
        ranges.append((first, last))
        return read(database, org_id, first, last)

    monkeypatch.setattr(register_storage, "entries", counted)
    return ranges


@pytest.mark.parametrize("plant", [plant_after, plant_next], ids=["after", "next"])
async def test_planted_blocks_are_read_once(
    database: Database,
    six_orgs: storage.Database,
    monkeypatch: pytest.MonkeyPatch,
    plant: Tamper,
) -> None:
    register = await opened(six_orgs)
    assert register.system_id is not None
    async with superuser(database) as connection:
        await plant(connection, register.system_id)
    ranges = reads_of(register, monkeypatch)
    for _ in range(3):
        await register.catch_up()
    assert len(ranges) == 1
    await _reported(six_orgs, "the trail system was changed")


async def test_beside_planted_blocks_only_new_ones_are_read(
    database: Database, six_orgs: storage.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(database) as (_, work):
        await work.create_org("org-6", "Org", "plain")
        register = await opened(six_orgs)
        assert register.system_id is not None
        async with superuser(database) as connection:
            await plant_after(connection, register.system_id)
        await register.catch_up()
        ranges = reads_of(register, monkeypatch)
        await work.create_org("org-7", "Org", "plain")
        await register.catch_up()
        assert ranges == [(8, 8)]
        assert register.has(ORGS, "org-7")


async def test_a_block_that_was_refused_is_read_again_when_it_is_put_right(
    database: Database, six_orgs: storage.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(database) as (_, work):
        register = await opened(six_orgs)
        await work.create_org("org-7", "Org", "plain")
        assert register.system_id is not None
        payloads: list[bytes] = []

        def blank(payload: bytes) -> bytes:
            payloads.append(payload)
            return b"{}"

        async with superuser(database) as connection:
            await connection.execute(
                "UPDATE heads SET seq = seq - 1 WHERE org_id = $1", register.system_id
            )
            await blocks.edit(connection, register.system_id, 7, payload=blank)
        await register.catch_up()
        assert not register.has(ORGS, "org-7")
        async with superuser(database) as connection:
            await blocks.edit(connection, register.system_id, 7, payload=lambda _: payloads[0])
        await register.catch_up()
        assert register.has(ORGS, "org-7")


async def test_snapshots_are_stored_while_a_server_runs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a damaged old entry costs only the rows since the snapshot before it, or none."""
    monkeypatch.setattr(snapshots, "LEAST_ENTRIES", 4)
    async with at_work(database) as (opened_, work):
        work.register._schedule.due = 4
        for number in range(ORGS_MADE):
            await work.create_org(f"org-{number}", "Org", "plain")
        storing = work.register._storing
        assert storing is not None
        await storing
        rows = await opened_.fetch("SELECT seq FROM register_snapshots")
        assert [row[0] for row in rows] == [4]
        assert work.register.system_id is not None
        async with superuser(database) as connection:
            await blocks.remove(connection, work.register.system_id, 2, 2)
        assert await known(opened_, await opened(opened_)) == [*range(ORGS_MADE)]


def test_the_schedule_of_snapshots_is_the_same_for_all_and_bounded() -> None:
    one, other = SnapshotSchedule(), SnapshotSchedule()
    taken = [seq for seq in range(100_000) if one.reaches(seq)]
    other.reaches(31_415)
    assert [seq for seq in range(31_416, 100_000) if other.reaches(seq)] == [
        seq for seq in taken if seq > 31_415
    ]
    assert taken[:4] == [64, 128, 192, 256]
    assert max(after - before for before, after in pairwise([*taken, 100_000])) <= 20_000
    assert sum(taken) <= 5 * 100_000, "all together have five times the bytes of the last"
