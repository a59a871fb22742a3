"""The archive is a static log that any tlog-tiles client verifies, and has the rows bit for bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ledger.archive.format.layout import place_of
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.targets import Target, open_target
from ledger.archive.writing.growth import REACH
from ledger.errors import ArchiveObjectMissing
from ledger.storage import archive_accounts
from ledger.storage.archive_accounts import ArchiveAccount
from ledger.tiles import EntryTile, Tile, bundles_of, tiles_of, verify_log
from tests.support.archives import HISTORY, ROW_KEY, SignedTrail, account_of, read_in
from tests.support.trails import ORG, ORG_ID


async def test_every_archived_checkpoint_is_a_log_that_verifies(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    sizes = []
    for count in (1, 4, 250, 1, 300, 211):
        await archived_trail.grow(count)
        await archived_trail.archive(folder)
        sizes.append(len(archived_trail.rows))
    files = read_in(tmp_path / "archive" / ORG)
    reader = ArchiveReader(folder, ORG)
    for size in sizes:
        opened = reader.opened(files[f"checkpoints/{size:016}"], HISTORY)
        # A partial tile is not replaced by the full one: each file is kept as it was at that size.
        assert {tile.path() for tile in tiles_of(size)} <= files.keys()
        assert {bundle.path() for bundle in bundles_of(size)} <= files.keys()
        report = verify_log(files.get, size, opened.root)
        assert (report.faults, report.entries) == ((), size)
    assert reader.opened(files["checkpoint"], HISTORY).size == sizes[-1]
    assert Tile(1, 0, 1).path() in files
    assert EntryTile(0).path() in files


async def test_rows_come_back_bit_for_bit(archived_trail: SignedTrail, folder: Target) -> None:
    for count in (3, 252, 1, 515):
        await archived_trail.grow(count)
        await archived_trail.archive(folder)
    size = len(archived_trail.rows)
    reader = ArchiveReader(folder, ORG)
    assert [row async for row in reader.entries(ORG_ID, 0, size - 1, size)] == archived_trail.rows
    assert [row async for row in reader.entries(ORG_ID, 250, 260, size)] == archived_trail.rows[
        250:261
    ]


async def test_all_checkpoints_and_their_places_in_the_anchor_log_are_kept(
    archived_trail: SignedTrail, folder: Target
) -> None:
    await archived_trail.grow(1, 2, 3)
    await archived_trail.archive(folder)
    await archived_trail.grow(4, 5)
    await archived_trail.archive(folder)
    stored = await archived_trail.superuser.fetch(
        "SELECT note, size, signed_at FROM checkpoints WHERE org_id = $1 ORDER BY size", ORG_ID
    )
    leaves = await archived_trail.superuser.fetch(
        "SELECT idx, nonce, size FROM anchor_leaves WHERE org_id = $1 ORDER BY idx", ORG_ID
    )
    reader = ArchiveReader(folder, ORG)
    found = [(row.note, row.size) async for row in reader.history()]
    assert found == [(row["note"], row["size"]) for row in stored]
    assert [row["size"] for row in stored] == [1, 3, 6, 10, 15]
    assert [(row.idx, row.nonce, row.size) async for row in reader.nonces()] == list(
        map(tuple, leaves)
    )


async def test_the_second_run_writes_nothing(archived_trail: SignedTrail, folder: Target) -> None:
    await archived_trail.grow(300)
    assert (await archived_trail.archive(folder)).objects > 0
    assert await archived_trail.archive(folder) == (300, 0, 0, True)


async def test_the_reader_lists_every_written_object(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    await archived_trail.grow(1, 300)
    await archived_trail.archive(folder)
    await archived_trail.grow(5)
    await archived_trail.archive(folder)
    for org in (ORG, "_anchors"):
        keys = [key async for key in ArchiveReader(folder, org).objects()]
        assert {key.key for key in keys} == {
            key for key in read_in(tmp_path / "archive" / org) if not key.startswith(".")
        }
        for key in keys:
            place_of(key.key)


async def test_the_account_has_the_signed_size(archived_trail: SignedTrail, folder: Target) -> None:
    await archived_trail.grow(300, 12)
    written = await archived_trail.archive(folder)
    found = await account_of(archived_trail.server, folder).upto(ORG_ID)
    assert found is not None
    assert (found.size, written.size) == (312, 312)
    assert found.leaves == 2
    assert (found.objects, found.bytes) == written[1:3]
    assert REACH > 312


async def test_nothing_is_added_to_an_archive_that_was_lost(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    """A new folder in the lost one's place would look like a whole archive, with only the newest part."""
    await archived_trail.grow(300)
    await archived_trail.archive(folder)
    shutil.rmtree(tmp_path / "archive")
    await archived_trail.grow(1)
    async with open_target(folder.url) as again:
        await again.check()  # as the next start does, which creates the folder
        with pytest.raises(ArchiveObjectMissing, match=r"lost, emptied, or is not mounted.*backup"):
            await archived_trail.archive(again)
    assert not (tmp_path / "archive" / ORG).exists()
    async with open_target(f"file://{tmp_path}/elsewhere") as another:
        await another.check()
        await archived_trail.archive(another)
    assert f"checkpoints/{301:016}" in read_in(tmp_path / "elsewhere" / ORG)


PLANT = """
INSERT INTO archived (target, org_id, size, leaves, root, objects, bytes, archived_at, mac)
SELECT $1, org_id, $2, 0, decode(repeat('00', 32), 'hex'), 0, 0, now(), ''
FROM trees WHERE org_id = $3"""


async def test_a_planted_row_archives_nothing_and_keeps_nothing_from_being_archived(
    archived_trail: SignedTrail, folder: Target
) -> None:
    """Attack A3 f: with the rights of the server's role, rows say that all is archived."""
    await archived_trail.grow(20)
    reported: list[str] = []
    account = ArchiveAccount(
        archived_trail.server, folder.url, ROW_KEY, lambda _, what: reported.append(what)
    )
    for size in (1_000_000, 20):
        await archived_trail.server.execute(PLANT, folder.url, size, ORG_ID)
    assert await account.upto(ORG_ID) is None
    assert len(reported) == 2
    assert await account.forged() == [ORG_ID]
    assert ORG_ID not in await archive_accounts.due(archived_trail.server, folder.url, 0, 0)
    await archived_trail.archive(folder)
    found = await account.upto(ORG_ID)
    assert found is not None
    assert found.size == 20
    assert (await ArchiveReader(folder, ORG).checkpoint()) is not None


async def test_planted_accounts_of_attestations_keep_none_from_being_archived(
    archived_trail: SignedTrail, folder: Target
) -> None:
    await archived_trail.grow(20)
    added_at = await archived_trail.superuser.fetchval(
        "INSERT INTO anchor_tokens (size, gen_time, token) VALUES (1, now(), 'x') RETURNING added_at"
    )
    await archived_trail.server.execute(
        "INSERT INTO archived_attestations (target, kind, size, witness, added_at, mac) "
        "VALUES ($1, 'token', 1, '', $2, '')",
        folder.url,
        added_at,
    )
    account = account_of(archived_trail.server, folder).attested
    (waiting,) = await account.new(10, 100)
    assert (waiting.kind, waiting.size, waiting.added_at) == ("token", 1, added_at)
    await account.add(waiting)
    assert await account.new(10, 100) == []
