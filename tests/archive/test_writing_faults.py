"""A writer that is stopped at any object, and trails that must not be archived in their state."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ledger.archive.format.layout import ANCHORS
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.targets import StoredObject, Target
from ledger.archive.targets.folder import FolderTarget
from ledger.archive.verification.run import ArchiveVerification, ArchiveVerificationOptions
from ledger.errors import ArchiveMismatch, ArchiveRefused, ArchiveUnavailable
from tests.support.archives import HISTORY, SignedTrail, account_of, read_in
from tests.support.blocks import Connection, edit, edit_large, remove, stored_at
from tests.support.signing import log_keys
from tests.support.tampering import Tampering, change, statement
from tests.support.trails import ORG, ORG_ID

HERE = ArchiveVerificationOptions(pins=HISTORY.pins(), processes=0)


class Ending(FolderTarget):
    """A folder that makes a number of writes and then fails, before or after the next write.

    A double: a real disk can't be made to fail at the n-th object.
    """

    def __init__(self, url: str, root: Path, writes: int, *, persisted: bool) -> None:
        super().__init__(url, root)
        self._left = writes
        self._persisted = persisted

    async def put(
        self, key: str, data: bytes, retain_until: datetime | None = None, legal_hold: bool = False
    ) -> StoredObject:
        return await self._counted(super().put(key, data, retain_until, legal_hold))

    async def put_pointer(
        self, key: str, data: bytes, retain_until: datetime | None = None, legal_hold: bool = False
    ) -> StoredObject:
        return await self._counted(super().put_pointer(key, data, retain_until, legal_hold))

    async def _counted(self, write: Any) -> StoredObject:
        self._left -= 1
        if self._left < 0 and not self._persisted:
            write.close()
            raise ArchiveUnavailable("the disk is gone")
        stored: StoredObject = await write
        if self._left < 0:
            raise ArchiveUnavailable("the disk is gone, after it wrote")
        return stored


@pytest.mark.parametrize("persisted", [False, True])
async def test_a_writer_stopped_at_any_object_goes_on_to_the_same_archive(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path, persisted: bool
) -> None:
    await archived_trail.grow(3)
    await archived_trail.archive(folder)
    await archived_trail.grow(300, 9)
    root = tmp_path / "archive"
    needed = 0
    for needed in range(100):
        ending = Ending(folder.url, root, needed, persisted=persisted)
        try:
            await archived_trail.archive(ending)
            break
        except ArchiveUnavailable:
            found = await account_of(archived_trail.server, folder).upto(ORG_ID)
            assert found is not None
            # An archiving is recorded only once all its objects are written; the anchor log follows the trail.
            verdict = await ArchiveVerification(folder, ORG, HERE).run()
            assert verdict.size >= found.size
            if found.size == 3:
                assert verdict.size in {3, 312}
                assert not [f for f in verdict.faults if f.check != "anchors"]
    assert needed > 10
    verdict = await ArchiveVerification(folder, ORG, HERE).run()
    assert (verdict.valid, verdict.size) == (True, 312)


async def test_growth_between_two_attempts_leaves_an_intact_archive(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    await archived_trail.grow(10)
    for writes in (1, 3, 5, 7, 9):
        with pytest.raises(ArchiveUnavailable):
            await archived_trail.archive(
                Ending(folder.url, tmp_path / "archive", writes, persisted=True)
            )
        await archived_trail.grow(40)
    await archived_trail.archive(folder)
    for log in (ORG, ANCHORS):
        assert (await ArchiveVerification(folder, log, HERE).run()).faults == ()
    reader = ArchiveReader(folder, ORG)
    assert [row async for row in reader.entries(ORG_ID, 0, 209, 210)] == archived_trail.rows


async def sign_otherwise(connection: Connection, org_id: int, seq: int) -> None:
    leaf = (await stored_at(connection, org_id, seq)).leaf
    await edit(connection, org_id, seq, signature=sha256(leaf).digest())


async def take_signature_for_hash(connection: Connection, org_id: int, seq: int) -> None:
    signature = (await stored_at(connection, org_id, seq)).signature
    await edit(connection, org_id, seq, entry_hash=signature)


TAMPERINGS = {
    "payload": change(edit, 5, payload=b"other"),
    "leaf": change(edit, 5, leaf=lambda leaf: leaf.replace(b"approve", b"decline")),
    "signature": change(sign_otherwise, 5),
    "entry_hash": change(take_signature_for_hash, 5),
    "subject_tag": change(edit, 5, subject_tag=1),
    "payload of 70 MB": change(edit_large, 5, "payload", 70_000_000),
    "removed": change(remove, 5),
    "the first removed": change(remove, 0),
    "the last removed": change(remove, 19),
    "tile edited": statement(
        "UPDATE tile_parts SET hashes = sha256(hashes) || substr(hashes, 33) WHERE org_id = $1"
    ),
    "tile removed": statement("DELETE FROM tile_parts WHERE org_id = $1"),
    "note edited": statement(
        "UPDATE checkpoints SET note = replace(note::text, '6', '7')::bytea WHERE org_id = $1"
    ),
    "checkpoint of another size": statement("UPDATE checkpoints SET size = 19 WHERE org_id = $1"),
    "note of 70 kB": statement(
        "UPDATE checkpoints SET note = repeat('x', 70000)::bytea WHERE org_id = $1"
    ),
    "nonce": statement("UPDATE anchor_leaves SET nonce = 'short' WHERE org_id = $1"),
}


@pytest.mark.parametrize("tampering", TAMPERINGS.values(), ids=TAMPERINGS)
async def test_unsigned_entries_are_not_archived(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path, tampering: Tampering
) -> None:
    await archived_trail.grow(20)
    await archived_trail.superuser.execute(
        "ALTER TABLE anchor_leaves DROP CONSTRAINT anchor_leaves_nonce_check"
    )
    await tampering(archived_trail.superuser, ORG_ID)
    with pytest.raises(ArchiveRefused):
        await archived_trail.archive(folder)
    assert await account_of(archived_trail.server, folder).upto(ORG_ID) is None
    assert "checkpoint" not in read_in(tmp_path / "archive" / ORG)


async def test_an_object_that_was_replaced_stops_the_archive_of_its_trail(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    await archived_trail.grow(20)
    planted = tmp_path / "archive" / ORG / "tile" / "entries"
    planted.mkdir(parents=True)
    (planted / "000.p").mkdir()
    (planted / "000.p" / "20").write_bytes(b"planted")
    with pytest.raises(ArchiveMismatch, match="Nothing was overwritten"):
        await archived_trail.archive(folder)
    assert await account_of(archived_trail.server, folder).upto(ORG_ID) is None


async def test_keys_that_the_archive_does_not_know_are_refused(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    await archived_trail.grow(5)
    await archived_trail.archive(folder)
    path = tmp_path / "archive" / ORG / "log-keys.json"
    path.chmod(0o644)
    path.write_bytes(log_keys(2).public().document())
    await archived_trail.grow(5)
    with pytest.raises(ArchiveRefused, match="disagree about the log's keys"):
        await archived_trail.archive(folder)
