"""The check that one entry is in the signed tree."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ledger.chain import StoredEntry, extend
from ledger.core.verification.single import check_inclusion, verify_entry
from ledger.core.verification.work.trust import TrailTrust
from ledger.storage.database import Database
from tests.support.signing import log_keys
from tests.support.trails import NOW_US, ORG, ORG_ID, RING, draft
from tests.verification.database import COUNT, HEAD, ROWS
from tests.verification.signed import TRUST, SignedTree


@pytest.fixture
async def server(signed: SignedTree) -> AsyncIterator[Database]:
    database = await Database.open(signed.superuser.database.server_url, size=2)
    yield database
    await database.close()


@pytest.mark.parametrize("seq", [0, 699, 1_023, 2_048, COUNT - 1])
async def test_every_entry_is_included(server: Database, seq: int) -> None:
    assert (await check_inclusion(server, ROWS[seq], TRUST)).verdict is True


async def test_without_keys_or_a_checkpoint_inclusion_is_not_checked(
    server: Database, signed: SignedTree
) -> None:
    assert (await check_inclusion(server, ROWS[0], None)).verdict == "not_checked"
    later = ROWS[0]._replace(seq=COUNT)
    assert (await check_inclusion(server, later, TRUST)).verdict == "not_checked"
    await signed.execute("TRUNCATE checkpoints")
    assert (await check_inclusion(server, ROWS[0], TRUST)).verdict == "not_checked"


async def why(server: Database, row: StoredEntry, trust: TrailTrust = TRUST) -> str:
    found = await check_inclusion(server, row, trust)
    assert found.verdict is False
    assert found.fault is not None
    assert found.fault.seq == row.seq
    return found.fault.kind


async def test_entries_that_are_not_included(server: Database, signed: SignedTree) -> None:
    leaf = ROWS[7].leaf.replace(b"success", b"failure")
    assert await why(server, ROWS[7]._replace(leaf=leaf)) == "not_included"
    assert await why(server, ROWS[8]._replace(seq=7)) == "not_included"
    foreign = TrailTrust.of(log_keys(2).public(), ORG)
    assert await why(server, ROWS[7], foreign) == "checkpoint_foreign"
    await signed.execute(f"DELETE FROM tile_parts WHERE org_id = {ORG_ID} AND level = 1")
    assert await why(server, ROWS[7]) == "tile_missing"


async def test_a_rewritten_entry_fails_this_check_alone(server: Database) -> None:

    before = HEAD._replace(seq=99, entry_hash=ROWS[99].entry_hash)
    (row,), _head = extend(ORG_ID, ORG, before, [draft(b"other")], NOW_US, RING.active)
    inclusion = await check_inclusion(server, row, TRUST)
    result = verify_entry(row, ROWS[99], ORG, RING, timestamp="", inclusion=inclusion)
    assert (result.valid, result.checks.included, result.checks.hash_valid) == (False, False, True)
    assert [fault.kind for fault in result.errors] == ["not_included"]
