"""The checkpoint of size 0 is archived in the history, and a restore brings it back."""

from __future__ import annotations

from pathlib import Path

from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.restore.run import Restore
from ledger.archive.targets import Target
from ledger.archive.verification.run import ArchiveVerificationOptions, LiveTrail, verify_archive
from tests.support.archives import HISTORY, KEYS, SignedTrail
from tests.support.clusters import Database
from tests.support.restoring import contents, restore_inputs, verified
from tests.support.signing import checkpointer
from tests.support.trails import ORG, ORG_ID, RING


async def _signed_empty(trail: SignedTrail) -> None:
    await trail.put_rows([])
    async with checkpointer(trail.database.server_url, trail.memory, KEYS) as signer:
        assert (await signer.round()).checkpoints == 1


async def test_a_checkpoint_of_size_0_is_archived_verified_and_restored(
    archived_trail: SignedTrail, folder: Target, database_of_module: Database
) -> None:
    await _signed_empty(archived_trail)
    await archived_trail.grow(1, 300)
    await archived_trail.archive(folder)
    await archived_trail.grow(7)
    await archived_trail.archive(folder)
    assert [row.size async for row in ArchiveReader(folder, ORG).history()] == [0, 1, 301, 308]
    live = LiveTrail(archived_trail.server, ORG_ID)
    how = ArchiveVerificationOptions(pins=HISTORY.pins(), processes=0)
    for verdict in await verify_archive(folder, ORG, how, keyring=RING, live=live):
        assert verdict.valid, verdict
    before = await contents(archived_trail.database)
    await Restore(folder, database_of_module.owner_url, restore_inputs(archived_trail.memory)).run(
        [ORG]
    )
    assert await contents(database_of_module) == before
    assert await verified(database_of_module, archived_trail.memory) == []


async def test_an_org_without_entries_is_not_archived(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    await _signed_empty(archived_trail)
    for _ in range(2):
        assert (await archived_trail.archive(folder)).objects == 0
    assert not (tmp_path / "archive" / ORG).exists()
