"""Retention in tests: an archived trail over several months, and the server's own entries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any, Final

import msgspec

from ledger.archive.retention.run import SYSTEM, Recorder, Retention
from ledger.archive.targets import Target
from ledger.archive.writing.object_writer import ObjectLock
from ledger.chain import Draft
from ledger.core.sequencer import AppendRequest
from ledger.entry import from_datetime, payload_digest
from ledger.storage import dropped_months, orgs, partitions
from tests.support.appending import Process, process
from tests.support.archives import ROW_KEY, SignedTrail
from tests.support.orgs import add_org
from tests.support.trails import ORG, ORG_ID, RING

SYSTEM_ID: Final = 99
JANUARY: Final = date(2026, 1, 1)
FEBRUARY: Final = date(2026, 2, 1)
MARCH: Final = date(2026, 3, 1)


def moment(month: date) -> int:
    """A time in a month, in µs."""
    return from_datetime(datetime(month.year, month.month, 5, 12, tzinfo=UTC))


async def append_three_months(trail: SignedTrail, target: Target, *counts: int) -> None:
    """Append so many entries in January, February and March of 2026; sign and archive them."""
    for month, count in zip((JANUARY, FEBRUARY, MARCH), counts, strict=False):
        await trail.grow(count, now_us=moment(month))
    await trail.archive(target)


async def set_retention(trail: SignedTrail, months: int | None) -> None:
    """Set the retention policy, seal the past months, and create partitions for those to come."""
    await dropped_months.set_keep_months(trail.database.owner_url, months)
    await partitions.prepare(trail.server, datetime.now(UTC))
    await partitions.retire(trail.database.retention_url, datetime.now(UTC), 7)


@asynccontextmanager
async def retaining(
    trail: SignedTrail,
    target: Target,
    policy: ObjectLock | None = None,
    *,
    unlocked: bool = True,
) -> AsyncIterator[Retention]:
    """Retention of a trail, with a sequencer for its own entries.

    By default objects are locked for a day, and a folder is allowed as the target.
    """
    async with process(trail.database.server_url) as running:
        recorder = Recorder(
            lambda event: append_to_system(running, trail, event),
            lambda org_id, event: _org(running, org_id, event),
        )
        policy = policy or ObjectLock(retain_days=1)
        url = trail.database.retention_url
        yield Retention(
            target, trail.server, url, lambda _: RING, recorder, policy, ROW_KEY, unlocked=unlocked
        )


async def append_to_system(running: Process, trail: SignedTrail, event: Mapping[str, Any]) -> int:
    """Append an event to the server's own trail, created if needed; returns its seq."""
    record = await orgs.org_by_slug(trail.server, SYSTEM)
    if record is None:
        await add_org(trail.server, SYSTEM_ID, SYSTEM, "", "plain", b"")
    system_id = SYSTEM_ID if record is None else record.id
    return await _append(running, system_id, SYSTEM, event)


async def _org(running: Process, org_id: int, event: Mapping[str, Any]) -> None:
    assert org_id == ORG_ID
    await _append(running, ORG_ID, ORG, event)


async def _append(running: Process, org_id: int, slug: str, event: Mapping[str, Any]) -> int:
    payload = msgspec.json.encode(event)
    draft = Draft(
        event["action"], None, None, event["event_type"], None, None,
        payload_digest(payload, None), None, None, 0, 0, payload,
    )  # fmt: skip
    appended = await running.sequencer.append(AppendRequest(org_id, slug, [draft]))
    return appended.entries[0].seq
