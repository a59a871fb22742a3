"""Verification with a checkpoint of size 0: it covers no entry, so no check holds because of it."""

from __future__ import annotations

import pytest

from ledger.chain import EMPTY_HEAD
from ledger.checkpoint import TreeHead
from ledger.core.verification.work.faults import CHECKS
from ledger.merkle import EMPTY_ROOT
from ledger.note import sign_note
from tests.support.signing import checkpoints_of, log_keys
from tests.support.trails import ORG, ORG_ID
from tests.verification.database import COUNT, HEAD, ROWS, Superuser
from tests.verification.signed import FAR, KEYS, SignedTree, kinds


@pytest.fixture
async def empty_trail(superuser: Superuser, signed: SignedTree) -> SignedTree:
    """A signed trail without entries."""
    await superuser.replace_rows([], EMPTY_HEAD)
    await signed.execute("TRUNCATE checkpoints, trees, tile_parts, anchor_leaves")
    signed.memory.unlink()
    await signed.sign(2)
    assert list(await checkpoints_of(superuser.database, ORG_ID)) == [0]
    return signed


async def test_a_trail_without_entries_stays_incomplete(empty_trail: SignedTree) -> None:
    for trust in (empty_trail.trust(), None):
        result = await empty_trail.verify(trust)
        assert (result.verdict, result.errors) == ("incomplete", [])
        held = {name for name in CHECKS if getattr(result.checks, name) != "not_checked"}
        assert held <= {"seq", "head"}, held


async def test_entries_after_only_size_0_are_not_signed(empty_trail: SignedTree) -> None:
    await empty_trail.replace_rows(ROWS, HEAD)
    result = await empty_trail.verify(empty_trail.trust(), limits=FAR)
    assert result.errors == []
    assert result.unsigned_entries == COUNT
    for name in ("tree", "checkpoints", "classical_signature", "anchors"):
        assert getattr(result.checks, name) == "not_checked"


async def test_a_forged_checkpoint_of_size_0_is_named(empty_trail: SignedTree) -> None:
    text = TreeHead(KEYS.public().org_origin(ORG), 0, EMPTY_ROOT).text()
    forged = sign_note(text, log_keys(2).org_signers(ORG))
    await empty_trail.execute(f"UPDATE checkpoints SET note = '\\x{forged.hex()}' WHERE size = 0")
    result = await empty_trail.verify(empty_trail.trust())
    assert result.verdict == "refuted"
    assert kinds(result)


async def test_a_grown_trail_is_verified_with_its_checkpoint_of_size_0(
    empty_trail: SignedTree,
) -> None:
    await empty_trail.replace_rows(ROWS, HEAD)
    await empty_trail.sign()
    result = await empty_trail.verify(empty_trail.trust())
    assert (result.valid, result.errors) == (True, [])
    assert 0 in await checkpoints_of(empty_trail.superuser.database, ORG_ID)
