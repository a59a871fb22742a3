"""Ends of API keys are reported ahead: each once, over restarts and with several servers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from secrets import token_hex

from ledger.storage import database as storage
from server.access.administration import Administration
from server.access.keys.changes import AskedKey, KeyChanges
from server.access.keys.endings import KeyEndings
from tests.support.clusters import Database
from tests.support.orgs import at_work

DAY = timedelta(days=1)
EVENTS = "SELECT kind, detail FROM security_events WHERE kind LIKE 'key_%' ORDER BY id"


async def made(work: Administration, org_id: int, lifetime: timedelta | None) -> str:
    asked = AskedKey(token_hex(8), org_id, "k", "admin", b"h" * 32, lifetime)
    await KeyChanges(work).add(asked, "org")
    return asked.id


async def told(database: storage.Database) -> list[tuple[str, str]]:
    """Kind and key of each event."""
    rows = await database.fetch(EVENTS)
    return [(row[0], row[1].split()[2]) for row in rows]


async def test_each_time_ahead_is_reported_once(database: Database) -> None:
    async with at_work(database) as (opened, work), at_work(database) as (there, other):
        org = await work.create_org("org", "Org", "plain")
        lasting = await made(work, org.id, None)
        month, late = await made(work, org.id, 31 * DAY), await made(work, org.id, 90 * DAY)
        here = [KeyEndings(opened, work.register), KeyEndings(there, other.register)]
        now, expected = datetime.now(UTC), [("key_never_expires", lasting)]
        for days, news in ((0, 0), (2, 1), (10, 0), (18, 1), (25, 1), (29, 0), (30.5, 1), (32, 0)):
            for _ in range(2):
                await asyncio.gather(*(one.report(now + days * DAY) for one in here))
            expected += [("key_expires", month)] * news
            assert await told(opened) == expected, days
        await here[1].report(now + 89.5 * DAY)
        assert await told(opened) == [*expected, ("key_expires", late)], "one for all at once"


async def test_keys_that_ended_or_were_changed_in_the_database_are_not_reported(
    database: Database,
) -> None:
    async with at_work(database) as (opened, work):
        org = await work.create_org("org", "Org", "plain")
        forged = await made(work, org.id, 5 * DAY)
        await opened.execute(
            "UPDATE api_keys SET expires_at = expires_at + interval '1 day' WHERE id = $1", forged
        )
        await KeyEndings(opened, work.register).report(datetime.now(UTC))
        assert await told(opened) == []


async def test_more_keys_than_a_page_are_reported(database: Database) -> None:
    async with at_work(database) as (opened, work):
        org = await work.create_org("org", "Org", "plain")
        ids = await asyncio.gather(*(made(work, org.id, 3 * DAY) for _ in range(600)))
        await KeyEndings(opened, work.register).report(datetime.now(UTC))
        assert sorted(key for _, key in await told(opened)) == sorted(ids)
