"""Long work in pieces: one of them in each turn of the loop, the owners in turn."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from ledger.pieces import piece, pieces_of


async def steps_of(work: list[asyncio.Task[None]], done: list[str]) -> list[int]:
    """Return how many pieces began in each turn of the loop, until all tasks ended."""
    seen = [0]
    while not all(task.done() for task in work):
        await asyncio.sleep(0)
        seen.append(len(done))
    return [after - before for before, after in pairwise(seen)]


async def long_work(owner: str, pieces: int, done: list[str]) -> None:
    for _ in range(pieces):
        await piece(owner)
        done.append(owner)


async def test_one_piece_begins_in_each_turn_of_the_loop() -> None:
    done: list[str] = []
    work = [asyncio.create_task(long_work("a", 3, done)) for _ in range(5)]
    assert max(await steps_of(work, done)) == 1
    assert len(done) == 15


async def test_an_owner_with_much_work_waits_for_its_own() -> None:
    done: list[str] = []
    work = [asyncio.create_task(long_work("many", 3, done)) for _ in range(20)]
    work.append(asyncio.create_task(long_work("one", 3, done)))
    await steps_of(work, done)
    assert [at for at, owner in enumerate(done) if owner == "one"][-1] < 10


async def test_a_cancelled_piece_takes_no_turn() -> None:
    done: list[str] = []
    work = [asyncio.create_task(long_work("a", 1, done)) for _ in range(4)]
    await asyncio.sleep(0)
    work[1].cancel()
    work[2].cancel()
    await asyncio.gather(*work, return_exceptions=True)
    assert done == ["a", "a"]
    await piece("a")


def test_each_loop_has_pieces_of_its_own() -> None:
    for _ in range(2):
        done: list[str] = []
        asyncio.run(long_work("a", 3, done))
        assert len(done) == 3


async def test_the_server_s_own_pieces_come_first() -> None:
    done: list[str | None] = []

    async def long(owner: str | None) -> None:
        for _ in range(3):
            await piece(owner)
            done.append(owner)

    work = [asyncio.create_task(long(f"org {number}")) for number in range(20)]
    await asyncio.sleep(0)
    await asyncio.gather(*work, long(None))
    assert [at for at, owner in enumerate(done) if owner is None][-1] < 8


async def test_turns_without_a_piece_follow_each_where_it_rests() -> None:
    pieces_of(asyncio.get_running_loop()).rests = 2
    done: list[str] = []
    work = [asyncio.create_task(long_work("a", 2, done)) for _ in range(3)]
    steps = await steps_of(work, done)
    begun = [at for at, step in enumerate(steps) if step]
    assert all(after - before >= 3 for before, after in pairwise(begun))
