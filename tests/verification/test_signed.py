"""Verification of signed trees: intact trees verify, and each tampering is named by its kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ledger import merkle
from ledger.chain import EMPTY_HEAD, ChainHead, extend, next_time_us
from ledger.checkpoint import SignedTreeHead, TreeHead
from ledger.core.verification.work import extent
from ledger.core.verification.work.faults import CHECKS, CHECKS_OF_ENTRIES
from ledger.core.verification.work.trust import TrailTrust
from ledger.log_keys import LogKeys
from ledger.note import sign_note
from tests.support import blocks
from tests.support.rings import slow
from tests.support.signing import log_keys
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, draft, trail
from tests.verification.database import COUNT, HEAD, ROWS, Superuser
from tests.verification.signed import FAR, KEYS, SIZES, TRUST, SignedTree, faults, kinds

FOREIGN = log_keys(2)
LAST = COUNT - 1
HASHES = [row.entry_hash for row in ROWS]
OF_TREES = CHECKS[6:]


def head_at(seq: int) -> ChainHead:
    """The head row as it was when this was the last entry."""
    return HEAD._replace(seq=seq, entry_hash=ROWS[seq].entry_hash) if seq >= 0 else EMPTY_HEAD


def note_of(size: int, root: bytes, keys: LogKeys = KEYS, *, anchor: bool = False) -> bytes:
    history = keys.public()
    origin = history.anchor_origin if anchor else history.org_origin(ORG)
    signers = keys.anchor_signers() if anchor else keys.org_signers(ORG)
    return sign_note(TreeHead(origin, size, root).text(), signers)


async def test_a_signed_trail(signed: SignedTree) -> None:
    result = await signed.verify(signed.trust())
    assert (result.valid, result.total_entries) == (True, COUNT)
    unchecked = {name for name in CHECKS if getattr(result.checks, name) == "not_checked"}
    assert unchecked == {"external_time", "witnesses", "search_index", "rows", "security_events"}
    blind = await signed.verify(None)
    assert {name for name in CHECKS if getattr(blind.checks, name) is True} == set(CHECKS[:6])


async def test_a_trail_that_outgrew_its_last_checkpoint(signed: SignedTree) -> None:
    at_us = next_time_us(NOW_US, HEAD)
    more, head = extend(ORG_ID, ORG, HEAD, [draft(b"later")] * 600, at_us, KEY)
    await blocks.write(signed.superuser.connection, more)
    await blocks.point_head_at(signed.superuser.connection, ORG_ID, head.seq)
    result = await signed.verify()
    assert (result.verdict, result.total_entries) == ("incomplete", COUNT + 600)
    assert (result.unsigned_entries, result.checks.tree) == (600, "not_checked")
    assert f"entry {COUNT} was written more than" in result.reasons["tree"]
    young = await signed.verify(limits=FAR)
    assert (young.verdict, young.unsigned_entries, young.checks.tree) == ("verified", 600, True)
    part = await signed.verify(from_seq=COUNT - 10, to_seq=COUNT - 1)
    assert (part.verdict, part.unsigned_entries) == ("verified", 0)


async def test_without_a_signed_tree_its_checks_are_not_made(signed: SignedTree) -> None:
    await signed.superuser.replace_rows()
    result = await signed.verify()
    assert (result.verdict, result.unsigned_entries) == ("incomplete", COUNT)
    assert {getattr(result.checks, name) for name in OF_TREES} == {"not_checked"}
    young = await signed.verify(limits=FAR)
    assert (young.verdict, young.unsigned_entries) == ("verified", COUNT)
    assert {getattr(young.checks, name) for name in OF_TREES} == {"not_checked"}


@pytest.mark.parametrize("left", [slow(3_499), 2_801, slow(2_100), slow(256), 1])
async def test_a_tail_cut_with_its_head_row(signed: SignedTree, left: int) -> None:
    await signed.replace_rows(ROWS[:left], head_at(left - 1))
    result = await signed.verify()
    assert faults(result) == [(left, "truncated"), (left, "below_signed")]
    assert (result.checks.tree, result.checks.checkpoints) == (False, True)
    assert result.failed_entries == COUNT - left


@pytest.mark.parametrize("head", [EMPTY_HEAD, None])
async def test_a_wiped_org(signed: SignedTree, head: ChainHead | None) -> None:
    await signed.replace_rows([], head)
    result = await signed.verify()
    assert kinds(result) - {"head_missing"} == {"wiped", "below_signed"}
    assert (result.checks.tree, result.checks.links) == (False, False)


async def test_a_wiped_org_and_its_tree(signed: SignedTree) -> None:
    await signed.replace_rows([], EMPTY_HEAD)
    for table in ("trees", "checkpoints", "tile_parts"):
        await signed.execute(f"DELETE FROM {table} WHERE org_id = {ORG_ID}")
    result = await signed.verify()
    assert faults(result) == [(size - 1, "rolled_back") for size in SIZES]
    assert result.checks.tree is False
    with_memory = await signed.verify(signed.trust())
    assert with_memory.fault_count == len(SIZES) + 1


@asynccontextmanager
async def restored_later(signed: SignedTree, size: int) -> AsyncIterator[None]:
    """When the block ends, restore the whole database to its state at the start, of this size."""
    tables = ["trees", "tile_parts", "checkpoints", "anchor_leaves"]
    copies = {table: await signed.fetch(f"SELECT * FROM {table}") for table in tables}
    yield
    for table, rows in copies.items():
        await signed.execute(f"TRUNCATE {table}")
        await signed.superuser.connection.copy_records_to_table(table, records=rows)
    await signed.replace_rows(ROWS[:size], head_at(size - 1))


async def test_a_database_restored_from_an_old_backup(signed: SignedTree) -> None:
    await signed.superuser.replace_rows()
    signed.memory.unlink()
    await signed.sign(rounds=2)
    async with restored_later(signed, 1_400):
        await signed.sign(rounds=3)
    result = await signed.verify(signed.trust())
    assert faults(result) == [(-1, "anchor_rolled_back"), (1_400, "rolled_back")]
    assert (result.checks.tree, result.checks.anchors) == (False, False)
    # Consistent as of then: the database alone shows nothing.
    assert (await signed.verify()).valid


async def test_the_signer_s_memory_is_checked_against_the_entries(
    signed: SignedTree,
) -> None:
    """The newest checkpoint is removed, and the entries that it covered are replaced."""
    prefix, head = trail(3_000, EMPTY_HEAD)
    other, head = extend(ORG_ID, ORG, head, [draft(b"other")] * 500, NOW_US, KEY)
    await signed.replace_rows([*prefix, *other], head)
    for table in ("tile_parts", "checkpoints", "trees"):
        await signed.execute(f"TRUNCATE {table}")
    result = await signed.verify(signed.trust())
    assert (LAST, "forked") in faults(result)


@pytest.mark.parametrize("size", SIZES)
async def test_an_edited_checkpoint(signed: SignedTree, size: int) -> None:
    root = merkle.root(HASHES[: size - 1])
    note = note_of(size, merkle.root(HASHES[:size]))
    edited = note.replace(note.split(b"\n")[2], TreeHead("x", 1, root).text().split(b"\n")[2])
    await signed.execute(
        f"UPDATE checkpoints SET note = '\\x{edited.hex()}' WHERE org_id = {ORG_ID} AND size = {size}"
    )
    result = await signed.verify()
    assert {"checkpoint_altered", "anchor_leaf_mismatch"} <= kinds(result)
    assert (result.checks.checkpoints, result.checks.classical_signature) == (False, False)
    assert {seq for seq, kind in faults(result) if kind == "checkpoint_altered"} == {size - 1}
    assert result.checks.tree is (size < COUNT)


@pytest.mark.parametrize("size", [1, slow(700), 701, slow(COUNT), COUNT + 1, slow(2**40)])
async def test_a_checkpoint_forged_with_a_foreign_key(signed: SignedTree, size: int) -> None:
    root = merkle.root(HASHES[:size])
    note = note_of(size, root, FOREIGN)
    await signed.superuser.connection.execute(
        "INSERT INTO checkpoints (org_id, size, root, note) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (org_id, size) DO UPDATE SET root = $3, note = $4",
        ORG_ID,
        size,
        root,
        note,
    )
    result = await signed.verify()
    assert (size - 1, "checkpoint_foreign") in faults(result)
    assert (result.checks.checkpoints, result.checks.classical_signature) == (False, False)
    assert kinds(result) <= {
        "checkpoint_foreign",
        "anchor_leaf_mismatch",
        "tile_mismatch",
        "tree_mismatch",
    }


@pytest.mark.parametrize(
    "note", [b"", b"\n", b"\xff\n\n", b"quire\n1\nAAAA\n\n\xe2\x80\x94 quire AAAA\n", b"x" * 70_000]
)
async def test_an_unreadable_checkpoint(signed: SignedTree, note: bytes) -> None:
    await signed.execute(f"UPDATE checkpoints SET note = '\\x{note.hex()}' WHERE size = 700")
    result = await signed.verify()
    assert (
        {"checkpoint_malformed"}
        <= kinds(result)
        <= {"checkpoint_malformed", "anchor_leaf_mismatch"}
    )


async def test_columns_beside_a_note(signed: SignedTree) -> None:
    await signed.execute(f"UPDATE checkpoints SET root = '\\x{bytes(32).hex()}' WHERE size = 700")
    await signed.execute("UPDATE checkpoints SET size = 1401 WHERE size = 1400")
    result = await signed.verify()
    assert faults(result) == [
        (699, "checkpoint_columns"),
        (1_399, "checkpoint_missing"),
        (1_400, "checkpoint_columns"),
    ]


async def test_a_checkpoint_that_was_removed(signed: SignedTree) -> None:
    await signed.execute("DELETE FROM checkpoints WHERE size = 1400")
    assert faults(await signed.verify()) == [(1_399, "checkpoint_missing")]
    await signed.execute("DELETE FROM checkpoints WHERE size = 3500")
    assert {"rolled_back", "tree_mismatch"} <= kinds(await signed.verify())


FLIP = "UPDATE tile_parts SET hashes = set_bit(hashes, {bit}, 1 - get_bit(hashes, {bit}))"


@pytest.mark.parametrize(
    ("level", "tile", "seq"), [(0, 0, 1), (0, 4, 1_025), (0, 13, 3_329), (1, 0, 0)]
)
async def test_a_changed_tile(signed: SignedTree, level: int, tile: int, seq: int) -> None:
    where = f"org_id = {ORG_ID} AND level = {level} AND tile = {tile} AND start = 0"
    await signed.execute(f"{FLIP.format(bit=256 + 9)} WHERE {where}")
    result = await signed.verify()
    assert faults(result) == [(seq, "tile_mismatch")]
    assert (result.checks.tree, result.checks.checkpoints, result.checks.hashes) == (
        False,
        True,
        True,
    )


@pytest.mark.parametrize(("level", "tile"), [(0, 0), (0, 2), (0, 13), (1, 0)])
async def test_a_missing_tile(signed: SignedTree, level: int, tile: int) -> None:
    await signed.execute(
        f"DELETE FROM tile_parts WHERE org_id = {ORG_ID} AND level = {level} AND tile = {tile}"
    )
    result = await signed.verify()
    assert kinds(result) == {"tile_missing"}
    assert (result.fault_count, result.checks.tree, result.checks.checkpoints) == (1, False, True)


async def test_tiles_beyond_the_signed_size(signed: SignedTree) -> None:
    for level, tile in ((0, 13), (0, 14), (1, 1), (5, 0)):
        await signed.execute(
            f"INSERT INTO tile_parts VALUES ({ORG_ID}, {level}, {tile}, 255, '\\x{bytes(32).hex()}')"
        )
    found = faults(await signed.verify())
    assert {kind for _, kind in found} == {"tile_mismatch"}
    assert len(found) == 3  # the part in tile 13 does not continue the part before it


async def test_a_tree_row_set_back(signed: SignedTree) -> None:
    await signed.execute(f"UPDATE trees SET size = 2800 WHERE org_id = {ORG_ID}")
    assert faults(await signed.verify()) == [(LAST, "tree_mismatch")]
    await signed.execute("DELETE FROM trees")
    result = await signed.verify()
    assert kinds(result) == {"tree_mismatch", "anchor_tree_mismatch"}


@pytest.mark.parametrize("first", [0, slow(699), slow(700), 3_000])
async def test_a_trail_rewritten_by_a_holder_of_the_signing_key(
    signed: SignedTree, first: int
) -> None:
    prefix, head = trail(first, EMPTY_HEAD)
    rest, head = extend(
        ORG_ID, ORG, head, [draft(b"%d" % n) for n in range(COUNT - first)], NOW_US, KEY
    )
    await signed.replace_rows([*prefix, *rest], head)
    result = await signed.verify()
    assert kinds(result) == {"rewritten"}
    assert min(fault.seq for fault in result.errors) == first
    assert (result.fault_count, result.failed_entries) == (COUNT - first, COUNT - first)
    assert {getattr(result.checks, name) for name in CHECKS_OF_ENTRIES} == {True}
    assert (result.checks.tree, result.checks.checkpoints) == (False, True)


async def test_a_trail_rewritten_with_its_tiles(signed: SignedTree) -> None:
    """An attacker with all database passwords does this: only the signatures contradict it."""
    prefix, head = trail(2_000, EMPTY_HEAD)
    rest, head = extend(ORG_ID, ORG, head, [draft(b"x")] * (COUNT - 2_000), NOW_US, KEY)
    rows = [*prefix, *rest]
    await signed.replace_rows(rows, head)
    await signed.execute(f"DELETE FROM tile_parts WHERE org_id = {ORG_ID}")
    levels = merkle.Edge().extend([row.entry_hash for row in rows])
    records = [
        (ORG_ID, level, start // 256, 0, b"".join(hashes[start : start + 256]))
        for level, hashes in levels.items()
        for start in range(0, len(hashes), 256)
    ]
    await signed.superuser.connection.copy_records_to_table("tile_parts", records=records)
    result = await signed.verify()
    assert faults(result) == [(size - 1, "forked") for size in SIZES if size > 2_000]
    assert (result.checks.tree, result.checks.checkpoints) == (False, False)


async def test_a_damaged_entry_does_not_discredit_the_checkpoints(signed: SignedTree) -> None:
    leaf = ROWS[1_000].leaf.replace(b"success", b"failure")
    await signed.superuser.edit(1_000, leaf=leaf)
    await signed.superuser.edit(2_000, payload=b"")
    await signed.superuser.remove(2_500, 2_600)
    result = await signed.verify()
    assert faults(result) == [
        (1_000, "hash_mismatch"),
        (2_000, "payload_mismatch"),
        (2_500, "missing"),
    ]
    assert (result.checks.tree, result.checks.checkpoints) == (False, True)


async def test_leaves_missing_everywhere_leave_the_rest_unchecked(signed: SignedTree) -> None:
    await signed.superuser.remove(1_000, 1_200)
    await signed.execute(
        f"DELETE FROM tile_parts WHERE org_id = {ORG_ID} AND level = 0 AND tile = 4"
    )
    result = await signed.verify()
    assert kinds(result) == {"missing", "tile_missing"}
    assert (result.checks.tree, result.checks.checkpoints) == (False, "not_checked")


async def test_ranges(signed: SignedTree) -> None:
    await signed.execute(f"{FLIP.format(bit=9)} WHERE org_id = {ORG_ID} AND level = 0 AND tile = 9")
    result = await signed.verify(to_seq=2_303)
    assert (result.valid, result.checks.tree, result.checks.checkpoints) == (True, True, True)
    assert result.checks.classical_signature is True
    assert (result.checks.anchors, result.checks.pq_signature) == (True, True)
    assert faults(await signed.verify(to_seq=3_000)) == [(2_304, "tile_mismatch")]
    before = await signed.verify(to_seq=600)
    assert (before.valid, before.checks.tree) == (True, True)
    later = await signed.verify(from_seq=2_560)
    assert (later.valid, later.checks.head) == (True, True)
    assert {getattr(later.checks, name) for name in OF_TREES[:5]} == {True}


async def test_a_rotated_key_and_the_one_before_it(signed: SignedTree) -> None:
    mine_and_foreign = TrailTrust.of(FOREIGN.public(), ORG)
    both = TrailTrust(
        trail=TRUST.trail.__class__(
            TRUST.trail.origin, [*mine_and_foreign.trail.keys, *TRUST.trail.keys]
        ),
        anchors=TRUST.anchors.__class__(
            TRUST.anchors.origin, [*mine_and_foreign.anchors.keys, *TRUST.anchors.keys]
        ),
    )
    assert (await signed.verify(both)).valid
    foreign = await signed.verify(mine_and_foreign)
    assert {"checkpoint_foreign", "anchor_foreign"} <= kinds(foreign)
    assert (foreign.checks.classical_signature, foreign.checks.pq_signature) == (False, False)
    assert foreign.checks.hashes is True


async def test_a_size_only_in_the_signer_s_memory_is_neither_a_loss_nor_verified(
    superuser: Superuser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory is written before the checkpoint is in the database.

    If the checkpoint does not appear, the trail is not verified: it may have been removed.
    """
    monkeypatch.setattr(extent, "SETTLE_S", 0.2)  # shorter, as the checkpoint never appears
    signed = SignedTree(superuser, tmp_path / "signed.sqlite")
    await signed.sign(3)
    ahead = SignedTreeHead(2_800, merkle.root(HASHES[:2_800]))
    trust = TrailTrust.of(KEYS.public(), ORG, trail=[ahead])
    size = SIZES[2]
    for first, last in ((None, None), (100, 300), (2_000, size - 1), (2_000, size), (size, None)):
        result = await signed.verify(trust, from_seq=first, to_seq=last, limits=FAR)
        below = last is not None and last < size
        verdict = "verified" if below else "incomplete"
        assert (first, faults(result), result.verdict) == (first, [], verdict)
        assert (result.checks.tree is True) is below
        assert below or "a tree of 2800 entries was signed" in result.reasons["tree"]
    shorter = await signed.verify(
        TrailTrust.of(KEYS.public(), ORG, trail=[SignedTreeHead(9_000, bytes(32))]),
        from_seq=5,
        to_seq=10,
    )
    assert {"rolled_back", "below_signed"} == kinds(shorter)
