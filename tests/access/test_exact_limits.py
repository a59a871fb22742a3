"""Exact limits: no concurrent charge exceeds a budget, and a refused one charges nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from secrets import token_hex

import pytest

from ledger.storage import rate_clocks
from ledger.storage.database import Database as Pool
from server.access.limits.exact import Budget, ExactLimits, budgets_of
from server.access.limits.rules import RateLimited, Spending
from tests.support.clusters import Database

KEY = b"k" * 32


@pytest.fixture
async def pool(database_of_module: Database) -> AsyncIterator[Pool]:
    opened = await Pool.open(database_of_module.server_url, size=8)
    yield opened
    await opened.close()


def asked(per_key: int, per_org: int, key: str = "", org: int = 1) -> list[Budget]:
    return budgets_of(Spending.VERIFY, key or token_hex(8), org, per_key, per_org, 3_600)


async def admitted(limits: ExactLimits, budgets: list[Budget], times: int) -> int:
    """How many of concurrent requests are admitted."""
    done = await asyncio.gather(
        *(limits.admit(budgets) for _ in range(times)), return_exceptions=True
    )
    assert all(one is None or isinstance(one, RateLimited) for one in done)
    return done.count(None)


async def test_processes_at_once_admit_exactly_the_budget(pool: Pool) -> None:
    budgets = asked(20, 0)
    processes = [ExactLimits(pool, KEY) for _ in range(3)]
    counts = await asyncio.gather(*(admitted(each, budgets, 15) for each in processes))
    assert sum(counts) == 20
    assert await admitted(ExactLimits(pool, KEY), budgets, 5) == 0


async def test_a_refusal_for_one_budget_charges_no_other(pool: Pool) -> None:
    busy, quiet, org = token_hex(8), token_hex(8), 77
    counts = [await admitted(ExactLimits(pool, KEY), asked(5, 12, busy, org), 40) for _ in "ab"]
    assert counts == [5, 0]
    # Of the org's twelve, seven are left for its other key, and no more.
    assert await admitted(ExactLimits(pool, KEY), asked(20, 12, quiet, org), 30) == 7
    assert await admitted(ExactLimits(pool, KEY), asked(20, 0, quiet, org), 30) == 13


async def test_a_refused_budget_is_refused_again_without_the_database(pool: Pool) -> None:
    limits, budgets = ExactLimits(pool, KEY), asked(2, 0)
    assert await admitted(limits, budgets, 3) == 2
    away = await Pool.open(pool.url, size=2)
    await away.close()
    limits._database = away
    with pytest.raises(RateLimited) as refused:
        await limits.admit(budgets)
    assert 1_700 < refused.value.retry_after <= 1_800
    assert refused.value.headers["RateLimit-Policy"] == '"key-verify";q=2;w=3600'


async def test_time_gives_back_what_it_should(pool: Pool) -> None:
    budgets = asked(4, 0)
    assert await admitted(ExactLimits(pool, KEY), budgets, 9) == 4
    place = budgets[0].charge(KEY).place
    passed = "UPDATE rate_budgets SET tat_us = tat_us - $2 WHERE place = $1"
    await pool.execute(passed, place, 1_800 * 1_000_000)
    assert await admitted(ExactLimits(pool, KEY), budgets, 9) == 2


async def test_a_database_whose_clock_was_set_back_admits_again(pool: Pool) -> None:
    budgets = asked(4, 0)
    assert await admitted(ExactLimits(pool, KEY), budgets, 9) == 4
    place = budgets[0].charge(KEY).place
    back = "UPDATE rate_budgets SET tat_us = tat_us + $2 WHERE place = $1"
    await pool.execute(back, place, 10 * 3_600 * 1_000_000)
    assert await admitted(ExactLimits(pool, KEY), budgets, 9) == 1
    await pool.execute(
        "UPDATE rate_budgets SET tat_us = tat_us - $2 WHERE place = $1", place, 3_601 * 1_000_000
    )
    assert await admitted(ExactLimits(pool, KEY), budgets, 9) == 4


async def test_rows_that_say_nothing_any_more_are_dropped(pool: Pool) -> None:
    budgets, kept = asked(4, 0), asked(4, 0)
    for each in (budgets, kept):
        assert await admitted(ExactLimits(pool, KEY), each, 1) == 1
    place = budgets[0].charge(KEY).place
    await pool.execute(
        "UPDATE rate_budgets SET tat_us = tat_us - $2 WHERE place = $1", place, 3_600 * 1_000_000
    )
    await rate_clocks.forget(pool)
    left = {row[0] for row in await pool.fetch("SELECT place FROM rate_budgets")}
    assert place not in left
    assert kept[0].charge(KEY).place in left
