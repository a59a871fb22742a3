"""The cases of module ``ratelimit`` in qwed_cases.jsonl, with the budgets that engines will use.

``CASES_DIR`` names another folder with a file of the same name and form. QWED's global limit is one
of all callers; here it is that of all keys of an org.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from secrets import token_hex
from typing import Any, Final, cast

import pytest
from litestar import Request

from ledger.storage.database import Connection
from ledger.storage.database import Database as Pool
from server.access.limits.exact import ExactLimits, budgets_of
from server.access.limits.rules import RateLimited, Spending
from server.http.problems import on_quire_error
from tests.support.cases import read_cases
from tests.support.clusters import Database

CASES: Final = [case for case in read_cases("qwed_cases.jsonl") if case["module"] == "ratelimit"]
_orgs = count(1)


def cases(*ops: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in CASES if case["op"] in ops]


class OneInstant:
    """A database on one connection in a transaction, where the time of PostgreSQL stands still."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def fetch(self, query: str, *values: object) -> list[Any]:
        return await self._connection.fetch(query, *values)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self._connection.transaction():
            yield self._connection


@pytest.fixture
async def limits(database_of_module: Database) -> AsyncIterator[ExactLimits]:
    pool = await Pool.open(database_of_module.server_url, size=2)
    async with pool.transaction() as connection:
        yield ExactLimits(cast("Any", OneInstant(connection)), b"k" * 32)
    await pool.close()


async def admit(
    limits: ExactLimits, key: str, org: int, given: dict[str, Any], times: int = 1
) -> None:
    """Admit requests, or raise the first refusal."""
    per_key, per_org, window_s = given["per_key"], given["per_org"], given["window_s"]
    budgets = budgets_of(Spending.VERIFY, key, org, per_key, per_org, window_s)
    for _ in range(times):
        await limits.admit(budgets)


def test_the_file_has_cases() -> None:
    assert CASES


@pytest.mark.parametrize("case", cases("per_key", "global"))
async def test_one_request_more_than_the_limit_is_refused(
    limits: ExactLimits, case: dict[str, Any]
) -> None:
    most, org = case["input"]["limit"], next(_orgs)
    of_key = case["op"] == "per_key"
    given = {
        "per_key": most if of_key else 0,
        "per_org": 0 if of_key else most,
        "window_s": case["input"]["window_s"],
    }
    key = token_hex(8)
    await admit(limits, key, org, given, most)
    with pytest.raises(RateLimited) as refused:
        await admit(limits, key if of_key else token_hex(8), org, given)
    scope: Any = {"type": "http", "state": {}, "client": ("127.0.0.1", 1), "headers": []}
    answer = on_quire_error(Request(scope), refused.value)
    expected = case["expected"]
    (status,) = (value for name, value in expected.items() if re.fullmatch(r"\d+\w\w", name))
    assert answer.status_code == status
    assert expected["detail_contains"] in answer.content.decode()
    assert expected.get("header", "Retry-After") in answer.headers


@pytest.mark.parametrize("case", cases("rejected per-key request consumes global budget"))
async def test_what_a_key_is_refused_is_left_to_others(
    limits: ExactLimits, case: dict[str, Any]
) -> None:
    busy, org, given = token_hex(8), next(_orgs), {"per_key": 3, "per_org": 10, "window_s": 3_600}
    await admit(limits, busy, org, given, 3)
    for _ in range(20):
        with pytest.raises(RateLimited, match="API key rate limit"):
            await admit(limits, busy, org, given)
    other = {**given, "per_key": 0}
    await admit(limits, token_hex(8), org, other, 7)
    with pytest.raises(RateLimited, match="Global rate limit"):
        await admit(limits, token_hex(8), org, other)
    assert case["expected"] == {"no": True}
