"""Fast limits of several processes on one database, in a time that the tests move by hand."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from secrets import token_hex

import pytest

from ledger.bounded import BoundedCache
from ledger.errors import DatabaseUnavailable
from ledger.storage.database import Database as Pool
from server.access.limits.fast import FastLimit, FastLimits
from server.access.limits.gcra import SECOND_NS, steady
from server.access.limits.rules import LimitScope, RateLimited, Spending
from tests.support.clusters import Database

KEY = b"k" * 32
PROCESSES = 4


class Fleet:
    """Four processes; their clocks, and the age of what the database has, move together."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.now_ns = 0
        self.processes = [FastLimits(pool, KEY, lambda: self.now_ns) for _ in range(PROCESSES)]

    async def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND_NS)
        await self.pool.execute("UPDATE rate_clocks SET tat_us = tat_us - $1", int(seconds * 1e6))

    def sent(self, at: int, *limits: FastLimit) -> bool:
        """Whether a process admits a request."""
        try:
            self.processes[at].admit(limits)
        except RateLimited:
            return False
        return True

    async def tell(self) -> None:
        for process in self.processes:
            await process.tell()


@pytest.fixture
async def fleet(database_of_module: Database) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        pool = await Pool.open(database_of_module.server_url, size=2)
        stack.push_async_callback(pool.close)
        yield Fleet(pool)


def limit(count: int, scope: LimitScope = LimitScope.KEY, who: str = "") -> FastLimit:
    return FastLimit(scope, Spending.APPEND, who or token_hex(8), count, 1)


@pytest.mark.parametrize("count", [60, 100, 1_000])
@pytest.mark.parametrize("seed", range(3))
async def test_four_processes_hold_a_limit_within_the_bound_and_use_it_up(
    fleet: Fleet, count: int, seed: int
) -> None:
    """For a minute, each process is asked for up to twice the limit, in bursts and pauses."""
    rng, keeps, rate = random.Random(seed), limit(count), steady(count)
    a_second = count / 60
    told, admitted, seconds = 0.0, 0, 0.0
    while seconds < 60:
        step = rng.choice([0.01, 0.05, 0.3])
        for at in range(PROCESSES):
            wanted = rng.choice([0, 1, int(a_second), int(2 * a_second * step) + 1])
            admitted += sum(fleet.sent(at, keeps) for _ in range(wanted))
        more = (PROCESSES - 1) * (rate.burst + a_second * (seconds - told + step))
        assert admitted <= rate.burst + a_second * seconds + max(
            more, (PROCESSES - 1) * (rate.burst + a_second)
        )
        await fleet.wait(step)
        seconds += step
        if seconds - told >= 1 - step / 2:
            await fleet.tell()
            told = seconds
    assert admitted >= 0.9 * count


async def test_a_load_below_the_limit_is_never_refused(fleet: Fleet) -> None:
    keeps = limit(600)  # ten a second
    for turn in range(300):
        assert fleet.sent(turn % PROCESSES, keeps), turn
        await fleet.wait(0.11)
        if turn % 9 == 8:
            await fleet.tell()


async def test_a_new_process_learns_what_the_others_used(fleet: Fleet) -> None:
    keeps = limit(600)
    assert sum(fleet.sent(0, keeps) for _ in range(50)) == 10
    await fleet.processes[0].tell()
    fresh = FastLimits(fleet.pool, KEY, lambda: fleet.now_ns)
    fresh.admit([keeps])  # before it asked
    await fresh.tell()
    with pytest.raises(RateLimited):
        fresh.admit([keeps])


async def test_a_refusal_for_one_scope_uses_no_other_budget(fleet: Fleet) -> None:
    of_key, of_org = limit(60), limit(600, LimitScope.ORG)
    answers = [fleet.sent(0, of_key, of_org) for _ in range(100)]
    assert answers.count(True) == 1
    assert sum(fleet.sent(0, of_org) for _ in range(100)) == 9
    # The other way round: the org is used up, and the key keeps what it has.
    other = limit(600)
    assert not fleet.sent(0, other, of_org)
    assert sum(fleet.sent(0, other) for _ in range(100)) == 10


async def test_a_refusal_says_whose_budget_it_is_and_how_long_to_wait(fleet: Fleet) -> None:
    keeps = limit(60, LimitScope.ORG)
    fleet.processes[0].admit([keeps])
    with pytest.raises(RateLimited) as refused:
        fleet.processes[0].admit([keeps])
    error = refused.value
    assert (error.scope, error.retry_after) == ("org", 1)
    assert error.headers == {
        "RateLimit-Policy": '"org-append";q=60;w=60',
        "RateLimit": '"org-append";r=0;t=1',
    }


async def test_while_the_database_is_away_each_counts_alone_and_nothing_is_lost(
    fleet: Fleet,
) -> None:
    keeps = limit(600)
    assert sum(fleet.sent(0, keeps) for _ in range(50)) == 10
    other = await Pool.open(fleet.pool.url, size=2)
    first = fleet.processes[0]
    first._database, kept = other, first._database
    await other.close()
    with pytest.raises(DatabaseUnavailable):
        await first.tell()
    first._database = kept
    await fleet.tell()
    assert not fleet.sent(0, keeps)
    fleet.processes[1].require([keeps])
    await fleet.tell()
    with pytest.raises(RateLimited):
        fleet.processes[1].require([keeps])


async def test_very_many_addresses_forget_no_key(fleet: Fleet) -> None:
    keeps, first = limit(60), fleet.processes[0]
    first._clocks = BoundedCache(1_000)
    first.admit([keeps])
    for number in range(2_000):
        address = FastLimit(LimitScope.ADDRESS, Spending.OTHER, str(number), 600, "addresses")
        first.admit([address])
    with pytest.raises(RateLimited):
        first.admit([keeps])
    assert len(first._clocks) == 1_000
