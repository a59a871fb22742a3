"""Blocks that an owner damaged or planted: archiver, comparison and retention refuse their org.

Each names entries, ends, and takes a bounded amount of memory, whatever the blocks claim.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ledger.archive.targets import Target
from ledger.archive.verification.run import (
    ArchiveVerification,
    ArchiveVerificationOptions,
    LiveTrail,
)
from ledger.errors import ArchiveRefused, RetentionRefused
from tests.support.archives import HISTORY, SignedTrail, account_of
from tests.support.blocks import rewrite
from tests.support.hostile_blocks import HOSTILE
from tests.support.retaining import JANUARY, moment, retaining, set_retention
from tests.support.trails import ORG, ORG_ID

COUNT = 300
MEMORY_BYTES = 300 << 20
"""Of three copies of the longest payload, and a page beside them; the hostile ones claim more."""
LIVE = ArchiveVerificationOptions(pins=HISTORY.pins(), processes=0)

every_hostility = pytest.mark.parametrize("name", HOSTILE)


@contextmanager
def bounded_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    finally:
        tracemalloc.stop()


async def damage(trail: SignedTrail, name: str) -> None:
    await rewrite(trail.superuser, ORG_ID, 5, HOSTILE[name])


@every_hostility
async def test_nothing_of_the_trail_is_archived(
    archived_trail: SignedTrail, folder: Target, name: str
) -> None:
    await archived_trail.grow(COUNT, payload_bytes=2_000)
    await damage(archived_trail, name)
    with (
        bounded_memory(),
        pytest.raises(ArchiveRefused, match=r"entr(y|ies) -?\d+.*full verification"),
    ):
        await archived_trail.archive(folder)
    assert await account_of(archived_trail.server, folder).upto(ORG_ID) is None


@every_hostility
async def test_the_comparison_with_the_database_finds_it(
    archived_trail: SignedTrail, folder: Target, name: str
) -> None:
    await archived_trail.grow(COUNT, payload_bytes=2_000)
    await archived_trail.archive(folder)
    await damage(archived_trail, name)
    live = LiveTrail(archived_trail.server, ORG_ID)
    with bounded_memory():
        verdict = await ArchiveVerification(folder, ORG, LIVE, live=live).run()
    assert (verdict.valid, verdict.database) == (False, False)
    assert verdict.tree is verdict.payloads is True, "the archive itself is right"
    assert all("entr" in fault.reason for fault in verdict.faults)


@every_hostility
async def test_the_month_stays_in_the_database(
    archived_trail: SignedTrail, folder: Target, name: str
) -> None:
    for month in (JANUARY, JANUARY.replace(month=2)):
        await archived_trail.grow(COUNT, payload_bytes=2_000, now_us=moment(month))
    await archived_trail.archive(folder)
    await set_retention(archived_trail, 1)
    await damage(archived_trail, name)
    async with retaining(archived_trail, folder) as retention:
        with bounded_memory(), pytest.raises(RetentionRefused, match=f"of {ORG} stay in the"):
            await retention.drop_month(JANUARY)
