"""Full verification of a trail of which months were dropped from the database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.archive.targets import Target
from ledger.chain import extend
from ledger.core.verification.run import TrailRange as Verified
from ledger.core.verification.run import verify_trail
from ledger.core.verification.work.crew import ArchiveAt
from ledger.core.verification.work.event_check import EventTrust
from ledger.core.verification.work.faults import Result, VerificationFailed
from ledger.core.verification.work.trust import TrailTrust
from ledger.errors import RetentionRefused
from ledger.storage import dropped_months
from ledger.storage.copy_out import open_snapshot
from tests.support import blocks
from tests.support.archives import HISTORY, SignedTrail
from tests.support.retaining import (
    FEBRUARY,
    JANUARY,
    append_three_months,
    moment,
    retaining,
    set_retention,
)
from tests.support.trails import KEY, ORG, ORG_ID, RING, draft


async def verified(
    archived_trail: SignedTrail,
    target: Target | None,
    first: int | None = None,
    last: int | None = None,
    events: EventTrust | None = None,
) -> Result:
    """Verify the trail, or a range of it, with the log's own keys."""
    return await verify_trail(
        archived_trail.database.server_url,
        Verified(ORG_ID, ORG, first, last),
        RING,
        trust=TrailTrust.of(HISTORY, ORG),
        archive=None if target is None else ArchiveAt(target.url),
        processes=2,
        events=events,
    )


@pytest.fixture
async def trail_without_months(archived_trail: SignedTrail, folder: Target) -> SignedTrail:
    """A trail of 1,100 entries, the first 1,060 of which are only in the archive."""
    await append_three_months(archived_trail, folder, 1_050, 10, 40)
    await set_retention(archived_trail, 1)
    async with retaining(archived_trail, folder) as retention:
        await retention.drop_month(JANUARY)
        await retention.drop_month(FEBRUARY)
    assert await dropped_months.live_from(archived_trail.server, ORG_ID) == 1_060
    return archived_trail


async def test_the_whole_trail_is_verified(
    trail_without_months: SignedTrail, folder: Target
) -> None:
    result = await verified(trail_without_months, folder)
    assert result.errors == []
    assert (result.total_entries, result.verified_entries) == (1_100, 1_100)
    checks = result.checks
    assert (checks.hashes, checks.links, checks.signatures, checks.payloads) == (True,) * 4
    assert (checks.tree, checks.checkpoints, checks.head) == (True,) * 3


async def test_events_that_archived_entries_sealed_are_compared(
    archived_trail: SignedTrail, folder: Target
) -> None:
    """The rows stay in the database when the entries leave it."""
    seal = b'{"event_type":"quire.security_events","actor":"server","action":"seal","events":[]}'
    events = b'[{"id":%d,"at":"2026-01-01T00:00:00Z","kind":"k","severity":"low","digest":"%s"}]'
    payload = seal.replace(b"[]", events % (7, b"ab" * 32))
    rows, archived_trail.head = extend(
        ORG_ID,
        ORG,
        archived_trail.head,
        [draft(payload, event_type="quire.security_events")],
        moment(JANUARY),
        KEY,
    )
    archived_trail.rows += rows
    await archived_trail.put_rows(rows)
    await append_three_months(archived_trail, folder, 20, 10, 40)
    await set_retention(archived_trail, 1)
    async with retaining(archived_trail, folder) as retention:
        await retention.drop_month(JANUARY)
    now = datetime.now(UTC)
    trust = EventTrust(lambda _, stored, __: stored, now, now)
    result = await verified(archived_trail, folder, events=trust)
    assert [(fault.kind, fault.reason) for fault in result.errors] == [
        ("event_missing", "security event 7 was removed from the database: entry 0 sealed it")
    ]
    assert result.failed_entries == 0


@pytest.mark.parametrize(("first", "last"), [(0, 9), (1_059, 1_060), (1_060, None), (900, 1_099)])
async def test_a_range_on_either_side(
    trail_without_months: SignedTrail, folder: Target, first: int, last: int | None
) -> None:
    result = await verified(trail_without_months, folder, first, last)
    assert result.errors == []
    assert result.verified_entries == (1_099 if last is None else last) - first + 1


async def test_a_damaged_archive_is_found(
    trail_without_months: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    bundle = tmp_path / "archive" / ORG / "tile/entries/001"
    bundle.chmod(0o600)
    data = bytearray(bundle.read_bytes())
    data[data.index(b"approve", 30_000)] ^= 1
    bundle.write_bytes(data)
    lost = tmp_path / "archive" / ORG / "payloads/003/000-255"
    lost.unlink()
    result = await verified(trail_without_months, folder)
    kinds = {(fault.seq, fault.kind) for fault in result.errors}
    assert (768, "archive_damaged") in kinds
    assert (768, "missing") in kinds
    assert "hash_mismatch" in {kind for _, kind in kinds}  # the next leaf names another hash
    assert result.checks.tree is False
    assert all(256 <= seq < 1_024 for seq, _ in kinds)


async def test_a_row_inserted_into_a_dropped_month_is_found(
    trail_without_months: SignedTrail, folder: Target
) -> None:
    forged = trail_without_months.rows[5]._replace(
        anchored_at=trail_without_months.rows[-1].anchored_at
    )
    await blocks.insert(trail_without_months.superuser, forged)
    result = await verified(trail_without_months, folder)
    assert [(fault.seq, fault.kind) for fault in result.errors] == [(5, "inserted")]


async def test_without_the_archive_the_verdict_is_incomplete(
    trail_without_months: SignedTrail,
) -> None:
    with pytest.raises(VerificationFailed, match="set QUIRE_ARCHIVE_URL"):
        await verified(trail_without_months, None)


async def test_no_month_is_dropped_while_a_snapshot_reads(
    archived_trail: SignedTrail, folder: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.archive.retention.run.DROP_TRIES", 1)
    await append_three_months(archived_trail, folder, 30, 10, 5)
    await set_retention(archived_trail, 1)
    async with retaining(archived_trail, folder) as retention:
        async with open_snapshot(archived_trail.database.server_url) as snapshot:
            with pytest.raises(RetentionRefused, match="stays in the database for now"):
                await asyncio.wait_for(retention.drop_month(JANUARY), 30)
            assert await snapshot.live_from(ORG_ID) == (0, None)
        assert await retention.drop_month(JANUARY) is not None
