"""Any fault of a trail or its tree stops its signature, is reported, and freezes its org."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from ledger.chain import EMPTY_HEAD, StoredEntry, extend
from ledger.entry import entry_hash
from ledger.keys import SigningKey
from ledger.storage import trees
from ledger.storage.entries.columns import ENTRY_COLUMNS
from tests.checkpointing.tampering import LENGTH, SIGNED, Victim, victim
from tests.support.appending import system_clock_us
from tests.support.clusters import Database
from tests.support.signing import sound_history
from tests.support.trails import KEY, draft, flips

NEW: Final = SIGNED + 2
ENTRY = f"WHERE org_id = $1 AND seq = {NEW}"
COPY = f"INSERT INTO entries SELECT org_id, seq, anchored_at + interval '1 us', {{}} FROM entries {ENTRY}"
REST = "actor_tag, subject_tag, entry_hash, signature, leaf, payload"
TREE = "UPDATE trees SET {} WHERE org_id = $1"
PLANTED = "INSERT INTO {} SELECT $1, {} FROM generate_series(1, 1)"
EDGE = "WHERE org_id = $1 AND level = 0 AND tile = 1"

CASES = {
    "leaf": (f"UPDATE entries SET leaf = set_bit(leaf, 77, 1 - get_bit(leaf, 77)) {ENTRY}", "hash_mismatch"),
    "leaf emptied": (f"UPDATE entries SET leaf = '' {ENTRY}", "hash_mismatch"),
    "leaf too long": (f"UPDATE entries SET leaf = leaf || repeat('x', 65536)::bytea {ENTRY}", "entry_malformed"),
    "leaf and hash": (
        f"UPDATE entries SET leaf = leaf || ' ', entry_hash = sha256('\\x00' || leaf || ' ') {ENTRY}",
        "signature_invalid",
    ),
    "leaf that is no JSON": (
        f"UPDATE entries SET leaf = '\\xff', entry_hash = sha256('\\x00ff') {ENTRY}",
        "leaf_malformed",
    ),
    "hash": (f"UPDATE entries SET entry_hash = set_bit(entry_hash, 9, 1 - get_bit(entry_hash, 9)) {ENTRY}", "hash_mismatch"),
    "hash emptied": (f"UPDATE entries SET entry_hash = '' {ENTRY}", "entry_malformed"),
    "hash of 20 MB": (f"UPDATE entries SET entry_hash = repeat('x', 20000000)::bytea {ENTRY}", "entry_malformed"),
    "signature": (f"UPDATE entries SET signature = set_bit(signature, 9, 1 - get_bit(signature, 9)) {ENTRY}", "signature_invalid"),
    "signature emptied": (f"UPDATE entries SET signature = '' {ENTRY}", "entry_malformed"),
    "all of the last row emptied": (
        f"UPDATE entries SET signature = '', entry_hash = '', leaf = '' WHERE org_id = $1 AND seq = {LENGTH - 1}",
        "entry_m",
    ),
    "removed": (f"DELETE FROM entries {ENTRY}", "entry_missing"),
    "the first new one removed": (f"DELETE FROM entries WHERE org_id = $1 AND seq = {SIGNED}", "entry_missing"),
    "the last removed": (f"DELETE FROM entries WHERE org_id = $1 AND seq = {LENGTH - 1}", "entry_missing"),
    "all new ones removed": (f"DELETE FROM entries WHERE org_id = $1 AND seq >= {SIGNED}", "entry_missing"),
    "duplicated": (COPY.format(REST), "entry_inserted"),
    "the last duplicated": (
        COPY.format(REST).replace(str(NEW), str(LENGTH - 1)),
        "entry_inserted",
    ),
    "swapped": (
        f"UPDATE entries SET seq = {2 * NEW + 1} - seq, anchored_at = anchored_at + interval '1 us' WHERE org_id = $1 AND seq IN ({NEW}, {NEW + 1})",
        "entry_moved",
    ),
    "moved into the past": (f"UPDATE entries SET anchored_at = anchored_at - interval '1 h' {ENTRY}", "entry_missing"),
    "head ahead": ("UPDATE heads SET seq = seq + 10 WHERE org_id = $1", "entry_missing"),
    "head beyond all seqs": ("UPDATE heads SET seq = 9223372036854775807 WHERE org_id = $1", "entry_missing"),
    "head emptied": ("UPDATE heads SET seq = -1 WHERE org_id = $1", "trail_shortened"),
    "head below all": ("UPDATE heads SET seq = -9223372036854775808 WHERE org_id = $1", "trail_shortened"),
    "head back": ("UPDATE heads SET seq = 250 WHERE org_id = $1", "trail_shortened"),
    "head removed": ("DELETE FROM heads WHERE org_id = $1", "trail_shortened"),
    "renamed": ("UPDATE orgs SET slug = 'renamed' || id WHERE id = $1", "checkpoint_invalid"),
    "tree shorter": (TREE.format("size = 299"), "checkpoint_missing"),
    "tree longer": (TREE.format("size = 303"), "checkpoint_missing"),
    "tree emptied": (TREE.format("size = 0, root = ''"), "rows_planted"),
    "tree negative": (TREE.format("size = -9223372036854775808"), "tree_row_changed"),
    "tree huge": (TREE.format("size = 9223372036854775807"), "tree_row_changed"),
    "tree row removed": ("DELETE FROM trees WHERE org_id = $1", "rows_planted"),
    "root": (TREE.format("root = sha256(root)"), "checkpoint_invalid"),
    "root emptied": (TREE.format("root = ''"), "checkpoint_invalid"),
    "note edited": ("UPDATE checkpoints SET note = set_byte(note, 3, 65) WHERE org_id = $1", "checkpoint_invalid"),
    "note with a NUL": ("UPDATE checkpoints SET note = set_byte(note, 3, 0) WHERE org_id = $1", "checkpoint_invalid"),
    "note of 20 MB": ("UPDATE checkpoints SET note = repeat('x', 20000000)::bytea WHERE org_id = $1", "checkpoint_missing"),
    "note removed": ("DELETE FROM checkpoints WHERE org_id = $1", "checkpoint_missing"),
    "tile edited": (f"UPDATE tile_parts SET hashes = set_byte(hashes, 40, 1 + get_byte(hashes, 40) % 7) {EDGE}", "tile_changed"),
    "newest leaf hash edited": (f"UPDATE tile_parts SET hashes = set_byte(hashes, octet_length(hashes) - 1, 1 + get_byte(hashes, octet_length(hashes) - 1) % 7) {EDGE}", "tile_changed"),
    "tile cut": (f"UPDATE tile_parts SET hashes = substr(hashes, 1, 32) {EDGE}", "tile_missing"),
    "tile removed": (f"DELETE FROM tile_parts {EDGE}", "tile_missing"),
    "upper tile edited": ("UPDATE tile_parts SET hashes = sha256(hashes) WHERE org_id = $1 AND level = 1", "tile_changed"),
    "tile part planted": (PLANTED.format("tile_parts", "0, 1, 44, sha256('')"), "rows_planted"),
    "upper tile part planted, in vain": (PLANTED.format("tile_parts", "1, 0, 7, sha256('')"), None),
    "checkpoint planted": (PLANTED.format("checkpoints", f"{LENGTH}, sha256(''), 'note'"), "rows_planted"),
    "checkpoint planted beside": (PLANTED.format("checkpoints", f"{LENGTH - 1}, sha256(''), 'note'"), None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_each_change_stops_its_org_alone(
    database_of_module: Database, tmp_path: Path, case: str
) -> None:
    statement, kind = CASES[case]
    async with victim(database_of_module, tmp_path / "memory") as org:
        await org.run(statement)
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
        if "renamed" in statement:
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
        (leaf,) = [
            row[0]
            for row in await org.connection.fetch(f"SELECT leaf FROM entries {ENTRY}", org.org.id)
        ]
        every = flips(leaf)
        for flipped in every[:: len(every) // 24]:
            await org.run(f"UPDATE entries SET leaf = $2 {ENTRY}", flipped)
            assert (await org.stopped()).kind == "hash_mismatch"
            await org.run(
                f"UPDATE entries SET leaf = $2, entry_hash = $3 {ENTRY}",
                flipped,
                entry_hash(flipped),
            )
            await org.thaw()
            assert (await org.stopped()).kind in {
                "signature_invalid",
                "leaf_malformed",
                "unknown_key",
            }
            await org.repair()


async def replace_entry(org: Victim, forged: StoredEntry) -> None:
    """Replace the stored entry at the forged entry's seq."""
    await org.run(f"DELETE FROM entries {ENTRY}")
    columns = ENTRY_COLUMNS.split(", ")
    await org.connection.copy_records_to_table("entries", records=[forged], columns=columns)


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
