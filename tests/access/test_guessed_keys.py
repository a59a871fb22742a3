"""Made-up API keys: however many, they take one connection of the database, and hold up nobody."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import pytest

from ledger.errors import DatabaseUnavailable
from server.access.keys.lookups import AT_ONCE, Found, KeyLookups
from tests.support.locks import held
from tests.support.serving import Server
from tests.support.waiting import until

GUESSES = 40


class Table:
    """A double of the table of keys: holds each query until it is let go, as a slow database does."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.free = asyncio.Event()
        self.error: Exception | None = None

    async def read(self, key_ids: Sequence[str]) -> Found:
        self.asked.append(list(key_ids))
        await self.free.wait()
        if self.error is not None:
            raise self.error
        found: dict[str, Any] = {one: f"key {one}" for one in key_ids if one != "unknown"}
        return found


async def test_all_keys_that_wait_are_one_query() -> None:
    table = Table()
    lookups = KeyLookups(table.read)
    finds = [asyncio.create_task(lookups.find(str(n % 100))) for n in range(300)]
    finds.append(asyncio.create_task(lookups.find("unknown")))
    await asyncio.sleep(0)
    finds[0].cancel()  # others wait for the same key
    await asyncio.sleep(0)
    table.free.set()
    found = await asyncio.gather(*finds[1:])
    assert [*map(str, found)] == [f"key {n % 100}" for n in range(1, 300)] + ["None"]
    assert len(table.asked) <= 2
    assert sorted(chain.from_iterable(table.asked)) == sorted([*map(str, range(100)), "unknown"])
    assert max(map(len, table.asked)) <= AT_ONCE


async def test_a_key_is_read_after_it_was_asked_for() -> None:
    table = Table()
    lookups = KeyLookups(table.read)
    first = asyncio.create_task(lookups.find("a"))
    while not table.asked:  # noqa: ASYNC110 - the task runs in between
        await asyncio.sleep(0)
    second = asyncio.create_task(lookups.find("a"))  # its row may have changed meanwhile
    await asyncio.sleep(0)
    table.free.set()
    await asyncio.gather(first, second)
    assert table.asked == [["a"], ["a"]]


async def test_a_failure_is_raised_for_all_and_not_kept() -> None:
    table = Table()
    table.free.set()
    table.error = DatabaseUnavailable("away")
    lookups = KeyLookups(table.read)
    found = await asyncio.gather(*(lookups.find(one) for one in "abc"), return_exceptions=True)
    assert {type(one) for one in found} == {DatabaseUnavailable}
    table.error = None
    assert str(await lookups.find("a")) == "key a"


@pytest.mark.parametrize("known_id", [False, True], ids=["unknown keys", "wrong secrets"])
def test_guesses_take_one_connection(shared_server: Server, *, known_id: bool) -> None:
    server = shared_server
    org, key = server.create_org("plain")
    made = server.request("POST", f"/v1/orgs/{org}/entries", {"event_type": "met"}, key=key)
    record = made.json()["record_id"]
    assert server.services is not None
    turns = server.services.database.turns

    def guess(_: int) -> int:
        first = key.rsplit("_", 1)[0] if known_id else f"quire_live_{secrets.token_hex(8)}"
        guessed = f"{first}_{secrets.token_hex(24)}"
        return server.request("GET", "/v1/whoami", key=guessed).status

    lock = held(
        server.database, lambda one: one.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
    )
    with ThreadPoolExecutor(GUESSES) as callers:
        with lock:
            guesses = [callers.submit(guess, n) for n in range(GUESSES)]
            until(lambda: len(server.connections) >= GUESSES, "the guesses did not arrive")
            until(lambda: turns.held, "no key is looked up")
            assert server.request("GET", f"/v1/orgs/{org}/entries/{record}", key=key).status == 200
            # The server's own work may hold a place for a moment, too.
            until(lambda: (turns.held, turns.waiting) == (1, 0), "guesses take more connections")
        assert {one.result() for one in guesses} == {401}


def test_other_texts_ask_the_database_nothing(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shared_server.services is not None
    asked = []
    monkeypatch.setattr(shared_server.services.database, "connection", lambda: asked.append(1))
    for text in ("x", "quire_live_", "quire_live_" + "0" * 16 + "_" + "Z" * 48, "9" * 8_000):
        assert shared_server.request("GET", "/v1/whoami", key=text).status == 401
    assert asked == []
