"""Any fault of a trail or its tree stops its signature, is reported, and freezes its org."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from ledger.chain import EMPTY_HEAD, StoredEntry, extend
from ledger.entry import entry_hash
from ledger.keys import SigningKey
from ledger.storage import trees
from tests.checkpointing.tampering import LENGTH, SIGNED, Victim, victim
from tests.support.appending import system_clock_us
from tests.support.blocks import (
    Connection,
    column,
    cut,
    duplicate,
    edit,
    edit_large,
    exchange,
    flip,
    flip_link,
    raw_bit,
    recut,
    remove,
    rewrite,
    stored_at,
    swap,
)
from tests.support.clusters import Database
from tests.support.hostile_blocks import bomb, first_frame
from tests.support.signing import sound_history
from tests.support.tampering import Tampering, change, statement
from tests.support.trails import KEY, draft, flips

NEW: Final = SIGNED + 2
LAST: Final = LENGTH - 1
TREE = "UPDATE trees SET {} WHERE org_id = $1"
PLANTED = "INSERT INTO {} SELECT $1, {} FROM generate_series(1, 1)"
EDGE = "WHERE org_id = $1 AND level = 0 AND tile = 1"


async def lengthen_leaf_with_hash(connection: Connection, org_id: int, seq: int) -> None:
    leaf = (await stored_at(connection, org_id, seq)).leaf + b" "
    await edit(connection, org_id, seq, leaf=leaf, entry_hash=entry_hash(leaf))


def later(time: datetime) -> datetime:
    return time + timedelta(microseconds=1)


def inflating(size: int) -> bytes:
    """A frame that says it has as many bytes as it should; it has 64 MiB."""
    return bomb(64 << 20, size)


CASES: dict[str, tuple[Tampering, str | None]] = {
    "leaf": (change(flip, NEW, "leaf", 77), "hash_mismatch"),
    "leaf emptied": (change(edit, NEW, leaf=b""), "hash_mismatch"),
    "leaf too long": (change(edit, NEW, leaf=lambda leaf: leaf + b"x" * 65_536), "entry_malformed"),
    "leaf and hash": (change(lengthen_leaf_with_hash, NEW), "signature_invalid"),
    "leaf that is no JSON": (change(edit, NEW, leaf=b"\xff", entry_hash=entry_hash(b"\xff")), "leaf_malformed"),
    "hash": (change(flip, NEW, "entry_hash", 9), "hash_mismatch"),
    "hash emptied": (change(edit, NEW, entry_hash=b""), "hash_mismatch"),
    "hash of 20 MB": (change(edit_large, NEW, "entry_hash", 20_000_000), "hash_mismatch"),
    "hash of the last": (change(flip, LAST, "entry_hash", 9), "hash_mismatch"),
    "hash, as the next leaf names it": (change(flip_link, NEW, 9), "hash_mismatch"),
    "signature": (change(flip, NEW, "signature", 9), "signature_invalid"),
    "signature emptied": (change(edit, NEW, signature=b""), "hash_mismatch"),
    "all of the last row emptied": (change(edit, LAST, signature=b"", entry_hash=b"", leaf=b""), "entry_m"),
    "removed": (change(remove, NEW), "entry_missing"),
    "the first new one removed": (change(remove, SIGNED), "entry_missing"),
    "the last removed": (change(remove, LAST), "entry_missing"),
    "all new ones removed": (change(cut, SIGNED), "entry_missing"),
    "duplicated": (change(duplicate, NEW, anchored_at=later), "entry_inserted"),
    "the last duplicated": (change(duplicate, LAST, anchored_at=later), "entry_inserted"),
    "swapped": (change(swap, NEW, NEW + 1), "entry_moved"),
    "moved into the past": (change(edit, NEW, anchored_at=lambda time: time - timedelta(hours=1)), "entry_missing"),
    "one bit of the stored leaves": (change(raw_bit, NEW, "leaves", 403), "entry_malformed"),
    "leaves cut": (change(column, NEW, leaves=lambda leaves: leaves[:-1]), "entry_malformed"),
    "ends emptied": (change(column, NEW, ends=b""), "entry_malformed"),
    "leaves that inflate to 64 MiB": (change(rewrite, NEW, first_frame("leaves", inflating)), "entry_malformed"),
    "a block that claims a thousand million entries": (change(column, NEW, first_seq=-(10**9)), "entry_m"),
    "a block that claims an entry too many": (change(column, NEW, first_seq=SIGNED - 1), "entry_"),
    "in other blocks": (change(recut, SIGNED, LAST, NEW), None),
    "head ahead": (statement("UPDATE heads SET seq = seq + 10 WHERE org_id = $1"), "entry_missing"),
    "head beyond all seqs": (statement("UPDATE heads SET seq = 9223372036854775807 WHERE org_id = $1"), "entry_missing"),
    "head emptied": (statement("UPDATE heads SET seq = -1 WHERE org_id = $1"), "trail_shortened"),
    "head below all": (statement("UPDATE heads SET seq = -9223372036854775808 WHERE org_id = $1"), "trail_shortened"),
    "head back": (statement("UPDATE heads SET seq = 250 WHERE org_id = $1"), "trail_shortened"),
    "head removed": (statement("DELETE FROM heads WHERE org_id = $1"), "trail_shortened"),
    "renamed": (statement("UPDATE orgs SET slug = 'renamed' || id WHERE id = $1"), "checkpoint_invalid"),
    "tree shorter": (statement(TREE.format("size = 299")), "checkpoint_missing"),
    "tree longer": (statement(TREE.format("size = 303")), "checkpoint_missing"),
    "tree emptied": (statement(TREE.format("size = 0, root = ''")), "rows_planted"),
    "tree negative": (statement(TREE.format("size = -9223372036854775808")), "tree_row_changed"),
    "tree huge": (statement(TREE.format("size = 9223372036854775807")), "tree_row_changed"),
    "tree row removed": (statement("DELETE FROM trees WHERE org_id = $1"), "rows_planted"),
    "root": (statement(TREE.format("root = sha256(root)")), "checkpoint_invalid"),
    "root emptied": (statement(TREE.format("root = ''")), "checkpoint_invalid"),
    "note edited": (statement("UPDATE checkpoints SET note = set_byte(note, 3, 65) WHERE org_id = $1"), "checkpoint_invalid"),
    "note with a NUL": (statement("UPDATE checkpoints SET note = set_byte(note, 3, 0) WHERE org_id = $1"), "checkpoint_invalid"),
    "note of 20 MB": (statement("UPDATE checkpoints SET note = repeat('x', 20000000)::bytea WHERE org_id = $1"), "checkpoint_missing"),
    "note removed": (statement("DELETE FROM checkpoints WHERE org_id = $1"), "checkpoint_missing"),
    "tile edited": (statement(f"UPDATE tile_parts SET hashes = set_byte(hashes, 40, 1 + get_byte(hashes, 40) % 7) {EDGE}"), "tile_changed"),
    "newest leaf hash edited": (statement(f"UPDATE tile_parts SET hashes = set_byte(hashes, octet_length(hashes) - 1, 1 + get_byte(hashes, octet_length(hashes) - 1) % 7) {EDGE}"), "tile_changed"),
    "tile cut": (statement(f"UPDATE tile_parts SET hashes = substr(hashes, 1, 32) {EDGE}"), "tile_missing"),
    "tile removed": (statement(f"DELETE FROM tile_parts {EDGE}"), "tile_missing"),
    "upper tile edited": (statement("UPDATE tile_parts SET hashes = sha256(hashes) WHERE org_id = $1 AND level = 1"), "tile_changed"),
    "tile part planted": (statement(PLANTED.format("tile_parts", "0, 1, 44, sha256('')")), "rows_planted"),
    "upper tile part planted, in vain": (statement(PLANTED.format("tile_parts", "1, 0, 7, sha256('')")), None),
    "checkpoint planted": (statement(PLANTED.format("checkpoints", f"{LENGTH}, sha256(''), 'note'")), "rows_planted"),
    "checkpoint planted beside": (statement(PLANTED.format("checkpoints", f"{LENGTH - 1}, sha256(''), 'note'")), None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_each_change_stops_its_org_alone(
    database_of_module: Database, tmp_path: Path, case: str
) -> None:
    tampering, kind = CASES[case]
    async with victim(database_of_module, tmp_path / "memory") as org:
        await tampering(org.connection, org.org.id)
        if kind is None:
            assert (await org.round()).stopped == []
            return
        doubt = await org.stopped()
        assert doubt.kind.startswith(kind), doubt
        assert await org.frozen() == f"checkpoints stopped: {doubt}"
        assert await org.events() == [f"checkpoints stopped: {doubt}"]
        # Thawed without repair: not frozen for the same reason again, and not signed.
        await org.thaw()
        assert (await org.stopped()).kind == doubt.kind
        assert await org.frozen() is None
        assert len(await org.events()) == 1
        if case == "renamed":
            await org.run("UPDATE orgs SET slug = $2 WHERE id = $1", org.org.slug)
        await org.repair()
        assert (await org.round()).stopped == []
        assert await sound_history(database_of_module, org.org, org.memory) == [SIGNED, LENGTH]


async def test_a_tree_row_in_the_future_hides_entries_but_gets_no_signature(
    database_of_module: Database, tmp_path: Path
) -> None:
    async with victim(database_of_module, tmp_path / "memory") as org:
        before = await org.notes()
        await org.run(TREE.format("anchored_at = '2999-01-01Z'"))
        assert [doubt.kind for _, _, doubt in (await org.round()).stopped] == ["entry_missing"]
        assert await org.notes() == before


async def test_leaves_with_our_signature_in_the_wrong_place(
    database_of_module: Database, tmp_path: Path
) -> None:
    """An attacker who can sign entries uses another link, another org, or an unknown key."""
    async with victim(database_of_module, tmp_path / "memory") as org:
        for slug, key, kind in (
            (org.org.slug, KEY, "link_broken"),
            ("another", KEY, "entry_moved"),
            (org.org.slug, SigningKey("foreign", bytes(32)), "unknown_key"),
        ):
            head = EMPTY_HEAD._replace(seq=NEW - 1, entry_hash=bytes(32))
            (forged,), _ = extend(org.org.id, slug, head, [draft(b"x")], system_clock_us(), key)
            await replace_entry(org, forged)
            assert (await org.stopped()).kind == kind
            await org.repair()


async def test_no_bit_of_a_stored_leaf_can_flip(
    database_of_module: Database, tmp_path: Path
) -> None:
    """A sample of the bits, in the database; test_following flips all bits, without a database."""
    async with victim(database_of_module, tmp_path / "memory") as org:
        every = flips((await stored_at(org.connection, org.org.id, NEW)).leaf)
        for flipped in every[:: len(every) // 24]:
            await edit(org.connection, org.org.id, NEW, leaf=flipped)
            assert (await org.stopped()).kind == "hash_mismatch"
            await edit(org.connection, org.org.id, NEW, entry_hash=entry_hash(flipped))
            await org.thaw()
            assert (await org.stopped()).kind in {
                "signature_invalid",
                "leaf_malformed",
                "unknown_key",
            }
            await org.repair()


async def replace_entry(org: Victim, forged: StoredEntry) -> None:
    """Replace the stored entry at the forged entry's seq."""
    replaced = await stored_at(org.connection, org.org.id, forged.seq)
    await exchange(org.connection, [replaced], [forged])


async def test_a_key_this_machine_lacks_stops_signatures_and_freezes_no_org(
    database_of_module: Database, tmp_path: Path
) -> None:
    """A rotated keyring has reached one machine and not yet the others."""
    async with victim(database_of_module, tmp_path / "memory") as org:
        head = EMPTY_HEAD._replace(seq=NEW - 1, entry_hash=bytes(32))
        key = SigningKey("newer", bytes(32))
        (forged,), _ = extend(org.org.id, org.org.slug, head, [draft(b"x")], system_clock_us(), key)
        await replace_entry(org, forged)
        assert (await org.stopped()).kind == "unknown_key"
        assert await org.frozen() is None
        await org.repair()
        assert (await org.round()).stopped == []


async def test_a_checkpoint_planted_beyond_the_tree_is_not_the_newest(
    database_of_module: Database, tmp_path: Path
) -> None:
    async with victim(database_of_module, tmp_path / "memory") as org:
        before = await trees.newest_checkpoint(org.server.database, org.org.id)
        await org.run(
            "INSERT INTO checkpoints (org_id, size, root, note) VALUES ($1, $2, $3, 'x')",
            2**40,
            bytes(32),
        )
        assert await trees.newest_checkpoint(org.server.database, org.org.id) == before
        above = await trees.first_checkpoint_above(org.server.database, org.org.id, 10_000)
        assert above is None
