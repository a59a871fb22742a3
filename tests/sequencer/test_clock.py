"""Times in a trail never decrease, at the ends of months and with a wrong clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from ledger.core.sequencer import KeyDigest, SequencerLimits
from ledger.entry import from_datetime
from ledger.errors import ClockUnsteady, DatabaseUnavailable
from ledger.storage import partitions
from ledger.storage.trail import AppendTransaction
from tests.support import blocks
from tests.support.appending import Process, new_org, process, sound_trail, superuser
from tests.support.clusters import Database

MINUTE_US = 60_000_000


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_us = 0
        self.set(datetime.now(UTC))

    def set(self, moment: datetime) -> None:
        self.now_us = from_datetime(moment)

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def timed_process(database: Database, clock: Clock) -> AsyncIterator[Process]:
    """A process with the test's clock."""
    async with process(database.server_url, clock=clock) as running:
        yield running


def key(name: str) -> KeyDigest:
    return KeyDigest(name.encode().ljust(16, b"."), b"b" * 16)


async def test_each_commit_of_a_trail_has_a_later_time(
    database: Database, timed_process: Process, clock: Clock
) -> None:
    """The clock's, or the first after that of the commit before."""
    org = await new_org(timed_process.database)
    start_us, times = clock.now_us, []
    for step_us in (0, 5, 0, -MINUTE_US, -1, 2 * MINUTE_US, -3 * MINUTE_US):
        clock.now_us += step_us
        times.append((await timed_process.append(org, b"x")).receipts()[0].anchored_us)
    after_us = [0, 5, 6, 7, 8, MINUTE_US + 4, MINUTE_US + 5]
    assert [time_us - start_us for time_us in times] == after_us
    assert len(await sound_trail(database, org)) == len(times)


async def test_an_append_needs_no_partition_made_beforehand(
    database: Database, timed_process: Process, clock: Clock
) -> None:
    org, other = await new_org(timed_process.database), await new_org(timed_process.database)
    moments = [
        datetime(2031, 1, 31, 23, 59, 59, 999_999, UTC),
        datetime(2031, 2, 1, tzinfo=UTC),
        datetime(2032, 2, 29, 23, 59, 59, 999_999, UTC),
        datetime(2032, 3, 1, tzinfo=UTC),
        datetime(2032, 12, 31, 23, 59, 59, 999_999, UTC),
        datetime(2033, 1, 1, tzinfo=UTC),
        datetime(2199, 7, 14, 12, tzinfo=UTC),
        datetime(2031, 1, 15, tzinfo=UTC),  # a time long before: the trail's time goes on
    ]
    newest = datetime.min.replace(tzinfo=UTC)
    for number, moment in enumerate(moments):
        clock.set(moment)
        both = await asyncio.gather(
            timed_process.append(org, b"x", idempotency=key(f"k{number}")),
            timed_process.append(other, b"y"),
        )
        newest = max(moment, newest + timedelta(microseconds=1))
        assert [appended.entries[0].anchored_at for appended in both] == [newest, newest]
    assert (await timed_process.append(org, b"x", idempotency=key("k0"))).replayed
    assert await sound_trail(database, org) == [b"x"] * len(moments)
    assert await sound_trail(database, other) == [b"y"] * len(moments)
    async with superuser(database) as connection:
        parts = await blocks.filled_partitions(connection)
    months = [(2031, 1), (2031, 2), (2032, 2), (2032, 3), (2032, 12), (2033, 1), (2199, 7)]
    assert parts == [blocks.partition(year, month) for year, month in months]


async def test_a_past_month_takes_no_more_entries(database: Database, clock: Clock) -> None:
    clock.set(datetime(2026, 3, 10, tzinfo=UTC))
    async with process(
        database.server_url, clock=clock, limits=SequencerLimits(retry_s=0.2)
    ) as timed:
        org = await new_org(timed.database)
        await timed.append(org, b"in March")
        # One day into April a slow clock may still write to March, after two days no longer.
        for now, sealed in (
            (datetime(2026, 4, 1, 23, tzinfo=UTC), 0),
            (datetime(2026, 4, 2, 1, tzinfo=UTC), 1),
        ):
            before = await seals(database)
            await partitions.retire(timed.database, now, 7)
            assert await seals(database) - before == sealed
        with pytest.raises(DatabaseUnavailable, match=f"{blocks.partition(2026, 3)} is sealed"):
            await timed.append(org, b"by a clock that is late")
        clock.set(datetime(2026, 4, 2, 2, tzinfo=UTC))
        await timed.append(org, b"in April")
        assert await sound_trail(database, org) == [b"in March", b"in April"]


class Leaping(Clock):
    """A clock that refuses to give a time while ``wrong`` is set."""

    wrong = False

    def __call__(self) -> int:
        if self.wrong:
            raise ClockUnsteady("the clock leapt", retry_after=3)
        return super().__call__()


async def test_nothing_is_written_while_the_clock_is_wrong(database: Database) -> None:
    clock = Leaping()
    async with process(
        database.server_url, clock=clock, limits=SequencerLimits(retry_s=60)
    ) as timed:
        orgs = [await new_org(timed.database) for _ in range(3)]
        await asyncio.gather(*(timed.append(org, b"right") for org in orgs))
        effects = []

        async def effect(_: AppendTransaction) -> None:
            effects.append("had")

        clock.wrong = True
        refused = await asyncio.gather(
            *(timed.append(org, b"wrong", b"wrong too", idempotency=key("k")) for org in orgs),
            timed.append(orgs[0], b"with an effect", effect=effect),
            return_exceptions=True,
        )
        assert [type(error) for error in refused] == [ClockUnsteady] * 4
        assert effects == []
        clock.wrong = False
        # The idempotency key is still unused, and the connections are as before.
        again = await timed.append(orgs[0], b"wrong", b"wrong too", idempotency=key("k"))
        assert not again.replayed
        assert await sound_trail(database, orgs[0]) == [b"right", b"wrong", b"wrong too"]
        for org in orgs[1:]:
            assert await sound_trail(database, org) == [b"right"]
        assert sum(report.entries for report in timed.reports) == 5


async def seals(database: Database) -> int:
    async with superuser(database) as connection:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM pg_trigger WHERE tgname = 'sealed'"
        )
    return count
