"""A head whose block is, byte for byte, the one that this process wrote is not decoded again."""

from __future__ import annotations

import asyncpg
import pytest

from ledger.blocks.layout import FRAME_BYTES
from ledger.core.org import OrgFacts
from ledger.errors import OrgFrozen
from ledger.storage.entries import heads
from ledger.storage.entries.heads import LockedHead
from tests.support.appending import Process, new_org, process, superuser
from tests.support.blocks import raw_bit
from tests.support.clusters import Database

COLUMNS = ("last_hash", "tags", "ends", "leaves", "payloads", "raw_bytes")


async def lock(database: Database, org: OrgFacts, appending: Process) -> LockedHead:
    """Lock the org's head as the process does before it appends."""
    connection = await asyncpg.connect(database.server_url)
    try:
        async with connection.transaction():
            knows = appending.sequencer._tools.heads.knows
            return (await heads.lock(connection, [org.id], knows))[org.id]
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "payloads", [[b"one"], [b"{}"] * 300, [bytes(FRAME_BYTES)], [bytes(5 << 20), b"x"]]
)
async def test_the_block_written_here_is_known(
    shared_database: Database, payloads: list[bytes]
) -> None:
    async with (
        process(shared_database.server_url) as ours,
        process(shared_database.server_url) as theirs,
    ):
        org = await new_org(ours.database)
        await ours.append(org, *payloads)
        assert (await lock(shared_database, org, ours)).is_known
        # Another process decodes and checks it once, and knows it then.
        first = await lock(shared_database, org, theirs)
        assert (first.is_known, first.damage) == (False, None)
        await theirs.append(org, b"next")
        assert (await lock(shared_database, org, theirs)).is_known
        assert not (await lock(shared_database, org, ours)).is_known
        await ours.append(org, b"last")


async def test_a_large_payload_is_read_whole_each_time(shared_database: Database) -> None:
    async with process(shared_database.server_url) as ours:
        org = await new_org(ours.database)
        await ours.append(org, bytes(FRAME_BYTES + 1))
        found = await lock(shared_database, org, ours)
        assert (found.is_known, found.unread is not None) == (False, True)
        await ours.append(org, b"next")


@pytest.mark.parametrize("column", COLUMNS)
async def test_a_known_head_whose_block_was_changed_is_checked(
    shared_database: Database, column: str
) -> None:
    async with process(shared_database.server_url) as ours:
        org = await new_org(ours.database)
        await ours.append(org, b"one")
        async with superuser(shared_database) as connection:
            await raw_bit(connection, org.id, 0, column, 21)
        assert not (await lock(shared_database, org, ours)).is_known
        if column != "raw_bytes":  # which says nothing that the check of a head needs
            with pytest.raises(OrgFrozen):
                await ours.append(org, b"next")
