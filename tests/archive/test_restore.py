"""The restore drill: orgs of a lost database are restored from the archive, bit for bit, and go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.restore.run import Restore
from ledger.archive.targets import Target
from ledger.core.org import OrgFacts
from ledger.errors import QuireError, RestoreRefused
from ledger.storage import database as storage
from ledger.storage import orgs
from ledger.storage.restoring import RestoreTransaction
from ledger.storage.restoring_anchors import AnchorRows
from tests.support import blocks
from tests.support.appending import new_org, process, sound_trail, superuser
from tests.support.archives import HISTORY, KEYS, SignedTrail
from tests.support.clusters import Cluster, Database
from tests.support.orgs import add_org
from tests.support.restoring import TABLES, contents, restore_inputs, signed_trail_of, verified
from tests.support.signing import checkpointer, log_keys, sound_anchors, sound_history
from tests.support.trails import ORG, ORG_ID

ACME = OrgFacts(ORG_ID, ORG, False, b"")


@pytest.fixture
def migrated_database(postgres_cluster: Cluster) -> Iterator[Database]:
    """A migrated database without rows."""
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)


async def test_the_drill(
    archived_trail: SignedTrail, folder: Target, migrated_database: Database
) -> None:
    await archived_trail.grow(1, 4, 300)
    await archived_trail.grow(255, 1, 700)
    await archived_trail.archive(folder)
    before = await contents(archived_trail.database)
    progress: list[int] = []
    restore = Restore(
        folder,
        migrated_database.owner_url,
        restore_inputs(archived_trail.memory),
        on_progress=lambda _, done, of: progress.append(done),
    )
    (restored,) = await restore.run([ORG])
    assert restored == (ORG, ORG_ID, 1_261, 6, False, 0, False)
    assert progress[-1] == 1_261
    assert await contents(migrated_database) == before
    assert await verified(migrated_database, archived_trail.memory) == []
    async with process(migrated_database.server_url) as running:
        appended = await running.append(ACME, b"it goes on")
        assert appended.entries[0].seq == 1_261
    async with checkpointer(migrated_database.server_url, archived_trail.memory, KEYS) as signer:
        await signer.sweep()
        report = await signer.round()
        assert (report.stopped, report.checkpoints) == ([], 1)
        assert await signer.anchor() == 7
    assert await sound_history(migrated_database, ACME, archived_trail.memory, HISTORY) == [
        1, 5, 305, 560, 561, 1_261, 1_262,
    ]  # fmt: skip
    await sound_anchors(migrated_database, archived_trail.memory, HISTORY)
    await sound_trail(migrated_database, ACME)
    assert await verified(migrated_database, archived_trail.memory) == []
    with pytest.raises(RestoreRefused, match="already has entries"):
        await Restore(folder, migrated_database.owner_url, restore_inputs()).run([ORG])


async def test_archiving_continues_in_the_same_archive(
    archived_trail: SignedTrail, folder: Target, migrated_database: Database
) -> None:
    await archived_trail.grow(300, 20)
    await archived_trail.archive(folder)
    await Restore(folder, migrated_database.owner_url, restore_inputs(archived_trail.memory)).run(
        [ORG]
    )
    async with signed_trail_of(migrated_database, archived_trail) as again:
        written = await again.archive(folder)
        assert (written.size, written.objects) == (320, 0)
        await again.grow(5)
        written = await again.archive(folder)
        assert written.size == 325
        size = 325
        reader = ArchiveReader(folder, ORG)
        archived = [row async for row in reader.entries(ORG_ID, 0, size - 1, size)]
        assert archived == archived_trail.rows + again.rows[-5:]


async def test_killed_in_the_middle_nothing_is_there_and_it_can_be_run_again(
    archived_trail: SignedTrail,
    folder: Target,
    migrated_database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await archived_trail.grow(300, 20)
    await archived_trail.archive(folder)
    before = await contents(archived_trail.database)
    nothing = await contents(migrated_database)
    steps = ["add_org", "add_entries", "set_tree", "set_head", "add_leaves", "claim", "seal_again"]
    for step in steps:
        with monkeypatch.context() as patch:
            owner = RestoreTransaction if hasattr(RestoreTransaction, step) else AnchorRows
            patch.setattr(owner, step, _killed)
            with pytest.raises(Killed):
                await Restore(folder, migrated_database.owner_url, restore_inputs()).run([ORG])
        assert await contents(migrated_database) == nothing, step
    await Restore(folder, migrated_database.owner_url, restore_inputs()).run([ORG])
    assert await contents(migrated_database) == before


async def test_a_tampered_archive_does_not_come_back(
    archived_trail: SignedTrail, folder: Target, migrated_database: Database, tmp_path: Path
) -> None:
    await archived_trail.grow(1, 40)
    await archived_trail.archive(folder)
    nothing = await contents(migrated_database)
    root = tmp_path / "archive"
    objects = [path for path in sorted(root.rglob("*")) if path.is_file()]
    refused = 0
    for path in objects:
        key = path.relative_to(root)
        data = path.read_bytes()
        path.chmod(0o600)
        for at in sorted({0, len(data) // 3, len(data) // 2, len(data) - 2}):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            try:
                await Restore(folder, migrated_database.owner_url, restore_inputs()).run([ORG])
            except QuireError:
                refused += 1
                assert await contents(migrated_database) == nothing, key
            else:
                # A restore computes tiles from the leaves, and does not read older partial bundles.
                assert "tile" in key.parts or "checkpoints" in key.parts, key
                async with superuser(migrated_database) as connection:
                    await wipe(connection)
        path.write_bytes(data)
    assert refused > 20


async def test_other_keys_than_the_pinned_ones_are_refused(
    archived_trail: SignedTrail, folder: Target, migrated_database: Database
) -> None:
    await archived_trail.grow(3)
    await archived_trail.archive(folder)
    others = restore_inputs()._replace(pins=log_keys(2).public().pins())
    with pytest.raises(RestoreRefused, match="not the history of the log's keys"):
        await Restore(folder, migrated_database.owner_url, others).run([ORG])


async def test_less_than_the_signed_size_is_refused_or_stays_unsigned_if_accepted(
    archived_trail: SignedTrail, folder: Target, migrated_database: Database
) -> None:
    await archived_trail.grow(30)
    await archived_trail.archive(folder)
    await archived_trail.grow(5)
    with pytest.raises(RestoreRefused, match="5 would be lost"):
        await Restore(
            folder, migrated_database.owner_url, restore_inputs(archived_trail.memory)
        ).run([ORG])
    restore = Restore(
        folder, migrated_database.owner_url, restore_inputs(archived_trail.memory), shorter=True
    )
    (restored,) = await restore.run([ORG])
    assert (restored.entries, restored.lost) == (30, 5)
    async with process(migrated_database.server_url) as running:
        await running.append(ACME, *[b"another entry 30"] * 5)
    async with checkpointer(migrated_database.server_url, archived_trail.memory, KEYS) as signer:
        report = await signer.round()
        assert [doubt.kind for _, _, doubt in report.stopped] == ["history_rewritten"]
    assert await sound_sizes(migrated_database) == [30]


async def test_a_database_that_has_the_org_s_row_keeps_it_with_its_key(
    archived_trail: SignedTrail, folder: Target, migrated_database: Database
) -> None:
    await archived_trail.grow(30)
    await archived_trail.archive(folder)
    database = await storage.Database.open(migrated_database.server_url, size=1)
    try:
        await add_org(database, ORG_ID, ORG, "Acme", "plain", b"its wrapped key")
        (restored,) = await Restore(folder, migrated_database.owner_url, restore_inputs()).run(
            [ORG]
        )
        assert restored.with_keys
        record = await orgs.org_by_id(database, ORG_ID)
    finally:
        await database.close()
    assert record is not None
    assert record.wrapped_key == b"its wrapped key"
    assert record.seq == 29


async def test_sealed_months_accept_only_restored_entries(
    archived_trail: SignedTrail, folder: Target, migrated_database: Database
) -> None:
    await archived_trail.grow(3)
    await archived_trail.archive(folder)
    async with superuser(migrated_database) as connection:
        await connection.execute("SET session_replication_role = origin")
        month = archived_trail.rows[0].anchored_at
        await connection.execute("SELECT quire_add_entries_month($1)", month)
        await connection.execute("SELECT quire_seal_partitions(now())")
        await Restore(folder, migrated_database.owner_url, restore_inputs()).run([ORG])
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="sealed"):
            await blocks.write(connection, [archived_trail.rows[0]._replace(seq=9)])


async def sound_sizes(database: Database) -> list[int]:
    """The sizes of the org's checkpoints, after checking its history."""
    async with superuser(database) as connection:
        rows = await connection.fetch(
            "SELECT size FROM checkpoints WHERE org_id = $1 ORDER BY size", ORG_ID
        )
    return [row[0] for row in rows]


async def wipe(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Empty every table, for the next attempt in the same database."""
    for table in (*reversed(TABLES), "archived", "archived_attestations"):
        await connection.execute(f"DELETE FROM {table}")


class Killed(Exception):
    """Raised where a real process would have been killed."""


def _killed(*_: object, **__: object) -> None:
    raise Killed


async def test_orgs_are_restored_one_after_another(
    archived_trail: SignedTrail, folder: Target, migrated_database: Database
) -> None:
    await archived_trail.grow(20)
    async with process(archived_trail.database.server_url) as running:
        other = await new_org(running.database)
        await running.append(other, *[b"of the other org"] * 30)
        record = await orgs.org_by_id(running.database, other.id)
    assert record is not None
    await archived_trail.grow(5)
    await archived_trail.archive(folder)
    await archived_trail.writer(folder).archive(record)
    before = await contents(archived_trail.database)
    restore = Restore(folder, migrated_database.owner_url, restore_inputs())
    await restore.run([ORG])
    async with superuser(migrated_database) as connection:
        unknown = "SELECT count(*) FROM anchor_leaves WHERE org_id = -1"
        assert await connection.fetchval(unknown) > 0
        await connection.execute("SET session_replication_role = origin")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await connection.execute("UPDATE anchor_leaves SET size = 9 WHERE org_id = 7")
        await restore.run([other.slug])
        assert await connection.fetchval(unknown) == 0
    assert await contents(migrated_database) == before
    async with checkpointer(migrated_database.server_url, archived_trail.memory, KEYS) as signer:
        assert (await signer.sweep()).stopped == []
        async with process(migrated_database.server_url) as running:
            await running.append(ACME, b"one more")
        assert (await signer.round()).stopped == []
        assert await signer.anchor() is not None
