"""Requests that arrive together begin by caller in turn, and few in one turn of the loop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Hashable

import pytest

from ledger.storage.asking import STRANGERS
from server.http.protocol import loop_shares
from server.http.protocol.loop_shares import AT_ONCE, MOST_A_TURN, LoopShares

FLOOD = 1_000


class Loop:
    """Requests of one loop, and the order in which they begin."""

    def __init__(self, *, busy_s: float = 0.0) -> None:
        self.shares = LoopShares()
        self.order: list[Hashable] = []
        self.turns: Counter[int] = Counter()
        self._busy_s = busy_s
        self._turn = 0

    async def request(self, caller: Hashable, address: Hashable = None) -> None:
        begun = self.shares.enter(caller, address)
        if begun is not None:
            await begun
        self.order.append(caller if address is None else address)
        self.turns[self._turn] += 1
        ends = time.thread_time() + self._busy_s
        while time.thread_time() < ends:
            pass

    async def begin(self, *requests: tuple[Hashable, Hashable]) -> None:
        counting = asyncio.create_task(self._count())
        await asyncio.gather(*(self.request(*one) for one in requests))
        counting.cancel()

    async def _count(self) -> None:
        while True:
            self._turn += 1
            await asyncio.sleep(0)


STRANGER = (STRANGERS, "192.0.2.1")


async def test_a_flood_of_strangers_holds_up_no_caller() -> None:
    loop = Loop()
    await loop.begin(*[STRANGER] * FLOOD, ("acme", None))
    assert loop.order.index("acme") <= AT_ONCE + MOST_A_TURN
    assert len(loop.order) == FLOOD + 1
    assert max(loop.turns.values()) <= MOST_A_TURN + 2 * AT_ONCE


async def test_a_flood_of_one_org_holds_up_no_other() -> None:
    loop = Loop()
    await loop.begin(*[("busy", None)] * FLOOD, *[("acme", None)] * 10)
    assert loop.order[AT_ONCE + MOST_A_TURN :][:20].count("acme") >= 5
    assert max(loop.turns.values()) <= MOST_A_TURN + 2 * AT_ONCE


async def test_turns_are_short_while_requests_take_long() -> None:
    loop = Loop(busy_s=0.001)
    await loop.begin(("acme", None), *[STRANGER] * FLOOD)
    later = [count for turn, count in loop.turns.items() if turn > 10]
    assert sorted(later)[len(later) // 2] <= 4


async def test_strangers_take_their_turn_by_address() -> None:
    loop = Loop()
    other = (STRANGERS, "198.51.100.7")
    await loop.begin(*[STRANGER] * FLOOD, *[other] * 5)
    last = len(loop.order) - loop.order[::-1].index("198.51.100.7")
    assert last <= 2 * (AT_ONCE + MOST_A_TURN)


async def test_many_callers_with_few_requests_never_wait() -> None:
    shares = LoopShares()
    assert [shares.enter(f"org {n % 500}") for n in range(500 * AT_ONCE)] == [None] * 500 * AT_ONCE


async def test_requests_that_end_while_they_wait_leave_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop_shares, "MOST_A_TURN", 1)
    loop = Loop()
    loop.shares = LoopShares()
    tasks = [asyncio.create_task(loop.request(*STRANGER)) for _ in range(50)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await loop.begin(STRANGER, ("acme", None))
    assert {"acme", STRANGER[1]} <= set(loop.order[-2:])
    assert not loop.shares._waiting
    assert not loop.shares._strangers
