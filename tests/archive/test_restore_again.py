"""The archive that a restored database continues can itself be restored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ledger.archive.format.layout import Span
from ledger.archive.format.records import AnchoredAt, encode_rows
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.restore.run import Restore
from ledger.archive.targets import Target
from ledger.archive.verification.run import ArchiveVerificationOptions, verify_archive
from ledger.core.checkpointing import RoundLimits
from ledger.core.org import OrgFacts
from ledger.storage import orgs
from tests.support.appending import new_org, process, superuser
from tests.support.archives import HISTORY, KEYS, SignedTrail, account_of
from tests.support.clusters import Cluster, Database
from tests.support.restoring import restore_inputs, signed_trail_of, verified
from tests.support.signing import checkpointer, sound_anchors
from tests.support.trails import ORG, ORG_ID, RING

ACME = OrgFacts(ORG_ID, ORG, False, b"")
AGAIN = RoundLimits(retry_s=0, idle_s=3_600)


@pytest.fixture
def two_databases(postgres_cluster: Cluster) -> Iterator[tuple[Database, Database]]:
    """Two migrated databases without rows."""
    made = postgres_cluster.migrated(), postgres_cluster.migrated()
    yield made
    for database in made:
        postgres_cluster.drop(database)


@pytest.fixture
async def other_org(archived_trail: SignedTrail) -> AsyncIterator[OrgFacts]:
    """Another org of 30 entries, signed in one round with Acme's first; one anchor covers both."""
    async with process(archived_trail.database.server_url) as running:
        made = await new_org(running.database)
        await running.append(made, *[b"of the other org"] * 30)
        await archived_trail.grow(20)
        yield made


async def archive(archived_trail: SignedTrail, folder: Target, *others: OrgFacts) -> None:
    """Archive the anchor log, then Acme and the other orgs."""
    await archived_trail.archive(folder)
    for org in others:
        record = await orgs.org_by_id(archived_trail.server, org.id)
        assert record is not None
        await archived_trail.writer(folder).archive(record)


async def append_sign_and_anchor(database: Database, memory: Path, *all_orgs: OrgFacts) -> None:
    """Append to each org, sign and anchor; checkpoints that wait since the restore are included."""
    async with process(database.server_url) as running:
        for org in all_orgs:
            await running.append(org, b"it goes on")
    async with checkpointer(database.server_url, memory, KEYS, pace=AGAIN) as signer:
        assert (await signer.sweep()).stopped == []
        assert (await signer.round()).stopped == []
        assert await signer.anchor() is not None


async def faults_of(folder: Target, org: str) -> list[str]:
    """The faults that a verification of the archive finds with the log's keys."""
    trail, anchors = await verify_archive(
        folder, org, ArchiveVerificationOptions(pins=HISTORY.pins(), processes=0), keyring=RING
    )
    return [fault.reason for fault in (*trail.faults, *anchors.faults)]


async def test_a_second_org_follows_after_a_loss_and_all_restores_again(
    archived_trail: SignedTrail,
    folder: Target,
    other_org: OrgFacts,
    two_databases: tuple[Database, Database],
) -> None:
    second, third = two_databases
    async with process(archived_trail.database.server_url) as running:
        await running.append(other_org, b"signed, and in no anchor")
    await archived_trail.grow(5, 6, anchor=False)
    await archive(archived_trail, folder, other_org)
    for org in (ORG, other_org.slug):
        sizes = [row.idx async for row in ArchiveReader(folder, org).nonces()]
        assert len(sizes) == 1, "a nonce of a leaf that no archived anchor covers"
    # The database is lost. Acme is restored, and its new anchor leaves take the lost leaves' indexes.
    await Restore(folder, second.owner_url, restore_inputs()).run([ORG])
    memory = archived_trail.memory.with_name("second.sqlite")
    await append_sign_and_anchor(second, memory, ACME)
    async with signed_trail_of(second, archived_trail) as again:
        await archive(again, folder)
        await Restore(folder, second.owner_url, restore_inputs(memory)).run([other_org.slug])
        await append_sign_and_anchor(second, memory, ACME, other_org)
        await archive(again, folder, other_org)
        leaves = "SELECT idx FROM anchor_leaves WHERE org_id = $1 ORDER BY idx"
        for org_id, slug in ((ORG_ID, ORG), (other_org.id, other_org.slug)):
            stored = [row[0] for row in await again.superuser.fetch(leaves, org_id)]
            archived = [row.idx async for row in ArchiveReader(folder, slug).nonces()]
            assert archived == stored
            assert await faults_of(folder, slug) == []
    await sound_anchors(second, memory, HISTORY)
    await Restore(folder, third.owner_url, restore_inputs(memory)).run([ORG, other_org.slug])
    await append_sign_and_anchor(third, memory, ACME, other_org)
    assert await verified(third, memory) == []
    await sound_anchors(third, memory, HISTORY)


async def test_nonces_of_lost_leaves_stop_nothing(
    archived_trail: SignedTrail, folder: Target, two_databases: tuple[Database, Database]
) -> None:
    """One nonce row of a lost anchor leaf, and one with a huge index that an attacker added."""
    second, third = two_databases
    await archived_trail.grow(20)
    await archived_trail.archive(folder)
    lost = [AnchoredAt(0, b"\x07" * 32, 20), AnchoredAt(10**15, b"\x08" * 32, 20)]
    await put_nonces(folder, 0, lost)
    restore = Restore(folder, second.owner_url, restore_inputs())
    await restore.run([ORG])
    assert "archived leaves of acme" in restore.warnings[0]
    assert "checkpoints: 2." in restore.warnings[0]
    memory = archived_trail.memory.with_name("second.sqlite")
    for _ in range(2):
        await append_sign_and_anchor(second, memory, ACME)
    async with signed_trail_of(second, archived_trail) as again:
        found = await account_of(again.server, folder).upto(ORG_ID)
        assert found is not None
        assert found.leaves <= 2
        await archive(again, folder)
        rows = await again.superuser.fetch("SELECT idx, nonce, size FROM anchor_leaves")
        nonces = {
            (row.idx, row.nonce, row.size) async for row in ArchiveReader(folder, ORG).nonces()
        }
        assert nonces - {(row.idx, row.nonce, row.size) for row in lost} == set(map(tuple, rows))
    await Restore(folder, third.owner_url, restore_inputs(memory)).run([ORG])
    assert await verified(third, memory) == []


async def put_nonces(folder: Target, after: int, rows: list[AnchoredAt]) -> None:
    key = Span("nonces", after, rows[-1].idx + 1).key()
    await folder.put(f"{ORG}/{key}", encode_rows(rows), None, False)


async def test_the_checkpoint_of_a_lost_leaf_is_anchored_again(
    archived_trail: SignedTrail, folder: Target, two_databases: tuple[Database, Database]
) -> None:
    second, _ = two_databases
    await archived_trail.grow(20)
    await archived_trail.grow(5, 6, anchor=False)
    await archived_trail.archive(folder)
    await Restore(folder, second.owner_url, restore_inputs(archived_trail.memory)).run([ORG])
    async with checkpointer(second.server_url, archived_trail.memory, KEYS, pace=AGAIN) as signer:
        await signer.sweep()
        await signer.round()
        assert await signer.anchor() == 2
    async with superuser(second) as connection:
        leaves = await connection.fetch("SELECT idx, size FROM anchor_leaves ORDER BY idx")
    assert list(map(tuple, leaves)) == [(0, 20), (1, 31)]
    assert await verified(second, archived_trail.memory) == []
    assert await faults_of(folder, ORG) == []
