"""Places that orgs take in turn: bounds, shares of kinds of work, and nothing lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from ledger.errors import QueueFull
from ledger.storage.asking import Work, asking, current_turn, turns_of_pool
from ledger.turns import Share, Turn, Turns
from tests.support.waiting import PATIENCE_S


def full(kind: object) -> QueueFull:
    return QueueFull(f"too many wait for {kind}")


def one_place(of_org: int = 100) -> Turns:
    return Turns(1, {"work": Share(1, 1)}, full=full, of_org=of_org)


async def until_waiting(turns: Turns, count: int) -> None:
    while turns.waiting < count:  # noqa: ASYNC110 - the tasks run in between
        await asyncio.sleep(0)


async def test_orgs_take_places_in_turn() -> None:
    turns, served = one_place(), list[str]()

    async def ask(owner: str) -> None:
        async with turns.place(Turn(owner, "work"), PATIENCE_S):
            served.append(owner)
            await asyncio.sleep(0)

    async with turns.place(Turn("first", "work"), PATIENCE_S):
        asking_now = [asyncio.create_task(ask("busy")) for _ in range(50)]
        asking_now.append(asyncio.create_task(ask("other")))
        await until_waiting(turns, 51)
    await asyncio.gather(*asking_now)
    assert served.index("other") <= 1
    assert (turns.held, turns.waiting) == (0, 0)


async def test_an_org_of_which_too_many_wait_is_refused_and_others_are_not() -> None:
    turns = one_place(of_org=2)
    async with turns.place(Turn("first", "work"), PATIENCE_S):
        tasks = [asyncio.create_task(turns.take(Turn("busy", "work"), PATIENCE_S)) for _ in "ab"]
        await until_waiting(turns, 2)
        with pytest.raises(QueueFull, match="too many wait for work"):
            await turns.take(Turn("busy", "work"), PATIENCE_S)
        tasks += [
            asyncio.create_task(turns.take(turn, PATIENCE_S))
            for turn in (Turn("other", "work"), Turn("busy", "work", False), Turn(None, "work"))
        ]
        await until_waiting(turns, 5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert (turns.held, turns.waiting) == (0, 0)


async def test_a_place_that_comes_with_the_cancellation_is_given_back() -> None:
    turns = one_place()
    first, second = Turn("first", "work"), Turn("second", "work")
    await turns.take(first, PATIENCE_S)
    task = asyncio.create_task(turns.take(second, PATIENCE_S))
    await until_waiting(turns, 1)
    turns.give_back(first)  # the place is the second one's, who does not know it yet
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (turns.held, turns.waiting) == (0, 0)


async def test_a_turn_that_does_not_come_is_given_up() -> None:
    turns = one_place()
    async with turns.place(Turn("first", "work"), PATIENCE_S):
        with pytest.raises(TimeoutError):
            await turns.take(Turn("second", "work"), 0.01)
    assert (turns.held, turns.waiting) == (0, 0)


@pytest.mark.parametrize("size", [2, 3, 4, 10, 100])
async def test_searches_of_all_orgs_leave_places_for_api_keys_and_reads(size: int) -> None:
    turns = turns_of_pool(size)
    for owner in range(200):
        turns.take_now(Turn(owner, Work.SEARCH))
    assert turns.take_now(Turn("reader", Work.READ)) or size < 3
    assert turns.take_now(Turn("caller", Work.VITAL))


@pytest.mark.parametrize("size", [2, 3, 4, 10, 100])
async def test_callers_without_a_key_leave_places_for_those_who_have_one(size: int) -> None:
    turns = turns_of_pool(size)
    for number in range(200):
        turns.take_now(Turn(f"192.0.2.{number}", Work.KEYLESS))
    assert turns.held == max(1, size // 5)
    assert turns.take_now(Turn("reader", Work.READ)) or size < 3
    assert turns.take_now(Turn("caller", Work.VITAL))


@pytest.mark.parametrize("size", [2, 3, 4, 10, 100])
async def test_refused_logins_of_all_kinds_leave_places_for_reads(size: int) -> None:
    turns = turns_of_pool(size)
    for owner in range(200):
        turns.take_now(Turn(owner, Work.VITAL))
    assert turns.take_now(Turn("reader", Work.READ))


async def test_one_org_leaves_places_for_the_searches_of_another() -> None:
    turns = turns_of_pool(10)
    while turns.take_now(Turn("busy", Work.SEARCH)) or turns.take_now(Turn("busy", Work.READ)):
        pass
    assert turns.take_now(Turn("other", Work.SEARCH))
    assert turns.take_now(Turn("other", Work.READ))


async def test_at_random_bounds_hold_and_nobody_is_forgotten() -> None:
    rng, turns = random.Random(15), turns_of_pool(6)
    held, most = Counter[str](), Counter[str]()
    done = 0

    async def ask() -> None:
        nonlocal done
        turn = Turn(rng.choice("abc"), rng.choice(list(Work)))
        try:
            async with turns.place(turn, rng.choice([0.0, PATIENCE_S])):
                kinds = [str(turn.kind), "all", f"{turn.kind} of {turn.owner}"]
                held.update(kinds)
                most.update(
                    {kind: held[kind] - most[kind] for kind in kinds if held[kind] > most[kind]}
                )
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                held.subtract(kinds)
        except TimeoutError:
            pass
        done += 1

    await asyncio.gather(*(ask() for _ in range(2_000)))
    assert done == 2_000
    assert (turns.held, turns.waiting, turns._held_by) == (0, 0, {})
    assert most["all"] == 6
    assert most["search"] <= 2
    assert most["vital"] <= 3
    assert all(most[f"search of {owner}"] == 1 for owner in "abc")


async def test_the_kind_of_work_is_that_of_the_innermost_block() -> None:
    with asking(Work.SEARCH, "acme", refusable=True):
        with asking(Work.VITAL):
            assert current_turn() == Turn("acme", Work.VITAL)
        assert current_turn() == Turn("acme", Work.SEARCH)
    assert current_turn() == Turn(None, Work.READ)
