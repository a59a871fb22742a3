"""Retention drops a month only when all conditions hold, and loses no entry."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.retention.run import SYSTEM, Retention
from ledger.archive.targets import Target
from ledger.archive.verification.run import ArchiveVerificationOptions, LiveTrail, verify_archive
from ledger.core.org import OrgFacts
from ledger.core.reading.past import ArchivePast
from ledger.core.reading.trail import TrailReader
from ledger.entry import RecordId, from_datetime
from ledger.errors import RetentionRefused
from ledger.storage import dropped_months, orgs
from tests.support import blocks
from tests.support.appending import process, rows_of
from tests.support.archives import KEYS, SignedTrail
from tests.support.retaining import (
    JANUARY,
    SYSTEM_ID,
    append_three_months,
    moment,
    retaining,
    set_retention,
)
from tests.support.signing import checkpointer
from tests.support.trails import ORG, ORG_ID, RING


async def test_a_month_is_dropped_and_recorded(archived_trail: SignedTrail, folder: Target) -> None:
    await append_three_months(archived_trail, folder, 300, 20, 5)
    await set_retention(archived_trail, 1)
    async with retaining(archived_trail, folder) as retention:
        left = await retention.run()
    assert [(one.month.month, one.entries) for one in left] == [(1, 300), (2, 20), (3, 5)]
    assert await dropped_months.live_from(archived_trail.server, ORG_ID) == 325
    rows = await rows_of(archived_trail.database, ORG_ID)
    assert [row.seq for row in rows] == [325], "the trail went on, as its head was in March"
    records = await rows_of(archived_trail.database, SYSTEM_ID)
    assert [b'"month":"2026-0%d"' % n in row.payload for n, row in enumerate(records, 1)] == [
        True
    ] * 3
    assert await orgs.org_by_slug(archived_trail.server, SYSTEM) is not None


async def test_dropped_entries_are_read_from_the_archive(
    archived_trail: SignedTrail, folder: Target
) -> None:
    await append_three_months(archived_trail, folder, 300, 20, 5)
    await set_retention(archived_trail, 1)
    async with retaining(archived_trail, folder) as retention:
        await retention.drop_month(JANUARY)
    reader = TrailReader(archived_trail.server, ArchivePast(archived_trail.server, folder.url))
    for row in (archived_trail.rows[0], archived_trail.rows[299], archived_trail.rows[300]):
        place = RecordId(ORG_ID, from_datetime(row.anchored_at), row.seq)
        assert await reader.entry(place) == row
        assert await reader.entry(place._replace(anchored_us=place.anchored_us + 1)) is None
        before = archived_trail.rows[row.seq - 1] if row.seq else None
        assert await reader.entry_before(row) == before
    await reader.close()


async def test_nothing_is_dropped_without_a_policy(
    archived_trail: SignedTrail, folder: Target
) -> None:
    await append_three_months(archived_trail, folder, 3, 3, 3)
    await set_retention(archived_trail, None)
    async with retaining(archived_trail, folder) as retention:
        assert await retention.run() == []
        with pytest.raises(RetentionRefused, match="the policy keeps it"):
            await retention.drop_month(JANUARY)
    assert len(await rows_of(archived_trail.database, ORG_ID)) == 9


async def test_no_entry_is_dropped_that_differs_from_the_archive(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    await append_three_months(archived_trail, folder, 3, 3, 3)
    await set_retention(archived_trail, 1)
    (pack,) = [p for p in (tmp_path / "archive").rglob("payloads/**/*") if p.is_file()]
    data = bytearray(pack.read_bytes())
    data[data.index(archived_trail.rows[1].payload)] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    async with retaining(archived_trail, folder) as retention:
        with pytest.raises(RetentionRefused, match="differ from the database"):
            await retention.run()
    assert [row.seq for row in await rows_of(archived_trail.database, ORG_ID)] == list(range(9))


async def test_nothing_is_dropped_with_a_folder_unless_accepted(
    archived_trail: SignedTrail, folder: Target
) -> None:
    await append_three_months(archived_trail, folder, 3, 3, 3)
    await set_retention(archived_trail, 1)
    async with retaining(archived_trail, folder, unlocked=False) as retention:
        with pytest.raises(RetentionRefused, match="QUIRE_RETENTION_UNLOCKED=true"):
            await retention.run()
    assert [row.seq for row in await rows_of(archived_trail.database, ORG_ID)] == list(range(9))


@pytest.mark.parametrize("walked", [50_000, 1])
async def test_a_process_that_saw_only_dropped_entries_appends(
    archived_trail: SignedTrail, folder: Target, monkeypatch: pytest.MonkeyPatch, walked: int
) -> None:
    monkeypatch.setattr("ledger.core.sequencer.heads.check.MAX_WALK_ENTRIES", walked)
    await append_three_months(archived_trail, folder, 30)
    await set_retention(archived_trail, None)
    org = OrgFacts(ORG_ID, ORG, False, b"")
    async with process(archived_trail.database.server_url, clock=lambda: moment(JANUARY)) as idle:
        await archived_trail.superuser.execute(
            f"DROP TRIGGER sealed ON {blocks.partition(2026, 1)}"
        )
        await idle.append(org, b"seen here last")
        async with process(archived_trail.database.server_url) as other:
            for _ in range(3):
                await other.append(org, b"written elsewhere")
            async with checkpointer(
                archived_trail.database.server_url, archived_trail.memory, KEYS
            ) as signer:
                await signer.round()
            await archived_trail.archive(folder)
            await set_retention(archived_trail, 1)
            async with retaining(archived_trail, folder) as retention:
                left = await retention.run()
        assert [one.entries for one in left] == [31]
        appended = await idle.append(org, b"goes on")
    assert appended.entries[0].seq == 34


async def test_killed_at_each_step_nothing_is_lost(
    archived_trail: SignedTrail, folder: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append_three_months(archived_trail, folder, 30, 5, 5)
    await set_retention(archived_trail, 1)
    seqs = list(range(40))
    async with retaining(archived_trail, folder) as retention:
        for step in ("verify", "_record", "_drop"):
            with monkeypatch.context() as patch:
                patch.setattr(Retention, step, _killed)
                with pytest.raises(Killed):
                    await retention.drop_month(JANUARY)
            assert [row.seq for row in await rows_of(archived_trail.database, ORG_ID)] == seqs
        assert await dropped_months.live_from(archived_trail.server, ORG_ID) == 0
        assert len(await rows_of(archived_trail.database, SYSTEM_ID)) == 1, (
            "it was told, and not done"
        )
        left = await retention.drop_month(JANUARY)
    assert left is not None
    assert [row.seq for row in await rows_of(archived_trail.database, ORG_ID)] == seqs[30:]
    assert await retention.drop_month(JANUARY) is None


class Killed(Exception):
    """Raised where a real process would have been killed."""


def _killed(*_: object) -> None:
    raise Killed


async def test_archiving_and_bundling_continue_in_a_partly_dropped_entry_bundle(
    archived_trail: SignedTrail, folder: Target
) -> None:
    await append_three_months(archived_trail, folder, 300, 20, 5)
    await set_retention(archived_trail, 1)
    async with retaining(archived_trail, folder) as retention:
        await retention.drop_month(JANUARY)
    await archived_trail.grow(7)
    await archived_trail.archive(folder)
    await archived_trail.grow(200)
    await archived_trail.archive(folder)
    size = len(archived_trail.rows)
    reader = ArchiveReader(folder, ORG)
    assert [row async for row in reader.entries(ORG_ID, 0, size - 1, size)] == archived_trail.rows
    trails = TrailReader(archived_trail.server, ArchivePast(archived_trail.server, folder.url))
    leaves = [row.leaf for row in archived_trail.rows]
    assert await trails.leaves(ORG_ID, 256, 256) == leaves[256:512]
    assert await trails.leaves(ORG_ID, 512, 20) == leaves[512:532]
    await trails.close()
    verdict, anchors = await verify_archive(
        folder,
        ORG,
        ArchiveVerificationOptions(),
        keyring=RING,
        live=LiveTrail(archived_trail.server, ORG_ID),
    )
    assert (verdict.faults, anchors.faults) == ((), ())
    assert verdict.database is True
