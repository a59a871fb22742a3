"""A writer that is stopped at any object, and trails that must not be archived in their state."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ledger.archive.format.layout import ANCHORS
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.targets import StoredObject, Target
from ledger.archive.targets.folder import FolderTarget
from ledger.archive.verification.run import ArchiveVerification, ArchiveVerificationOptions
from ledger.errors import ArchiveMismatch, ArchiveRefused, ArchiveUnavailable
from ledger.storage import archive_accounts
from tests.support.archives import HISTORY, SignedTrail, read_in
from tests.support.signing import log_keys
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
            account = await archive_accounts.archived(archived_trail.server, folder.url, ORG_ID)
            assert account is not None
            # An archiving is recorded only once all its objects are written; the anchor log follows the trail.
            verdict = await ArchiveVerification(folder, ORG, HERE).run()
            assert verdict.size >= account.size
            if account.size == 3:
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


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE entries SET payload = 'other' WHERE seq = 5",
        "UPDATE entries SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'approve', "
        "'decline'), 'UTF8') WHERE seq = 5",
        "UPDATE entries SET signature = sha256(leaf) WHERE seq = 5",
        "UPDATE entries SET entry_hash = signature WHERE seq = 5",
        "UPDATE entries SET subject_tag = 1 WHERE seq = 5",
        "UPDATE entries SET payload = repeat('x', 70000000)::bytea WHERE seq = 5",
        "DELETE FROM entries WHERE seq = 5",
        "DELETE FROM entries WHERE seq = 0",
        "DELETE FROM entries WHERE seq = 19",
        "UPDATE tile_parts SET hashes = sha256(hashes) || substr(hashes, 33) WHERE org_id = 7",
        "DELETE FROM tile_parts WHERE org_id = 7",
        "UPDATE checkpoints SET note = replace(note::text, '6', '7')::bytea WHERE org_id = 7",
        "UPDATE checkpoints SET size = 19 WHERE org_id = 7",
        "UPDATE checkpoints SET note = repeat('x', 70000)::bytea WHERE org_id = 7",
        "UPDATE anchor_leaves SET nonce = 'short' WHERE org_id = 7",
    ],
)
async def test_unsigned_entries_are_not_archived(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path, tampering: str
) -> None:
    await archived_trail.grow(20)
    await archived_trail.superuser.execute(
        "ALTER TABLE anchor_leaves DROP CONSTRAINT anchor_leaves_nonce_check"
    )
    await archived_trail.superuser.execute(tampering)
    with pytest.raises(ArchiveRefused):
        await archived_trail.archive(folder)
    assert await archive_accounts.archived(archived_trail.server, folder.url, ORG_ID) is None
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
    assert await archive_accounts.archived(archived_trail.server, folder.url, ORG_ID) is None


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
