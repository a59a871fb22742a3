"""Of two signers one signs; the other takes over when the first dies."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support import signer_process
from tests.support.appending import PATIENCE_S, new_org, process
from tests.support.clusters import Database
from tests.support.signing import checkpointer, checkpoints_of, sound_anchors, sound_history

ROOT = Path(__file__).parents[2]
TAKE_OVER_S = 15.0
QUIET_S = 0.5


@asynccontextmanager
async def signer(url: str, memory: Path) -> AsyncIterator[Process]:
    """A signer process; killed when the block ends."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", signer_process.__name__, url, str(memory), stdout=PIPE, cwd=ROOT
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def leading_signers(signers: list[Process], patience_s: float) -> list[Process]:
    """The signers that report leadership within this time."""
    lines = [asyncio.create_task(line(each)) for each in signers]
    done, pending = await asyncio.wait(lines, timeout=patience_s, return_when="FIRST_COMPLETED")
    if done and pending:
        more, pending = await asyncio.wait(pending, timeout=QUIET_S)
        done |= more
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return [each for each, task in zip(signers, lines, strict=True) if task in done]


async def line(started: Process) -> bytes:
    assert started.stdout is not None
    return await started.stdout.readline()


@pytest.mark.parametrize("memories", [1, 2], ids=["of one machine", "of two machines"])
async def test_one_signer_signs_and_the_other_takes_over(
    database: Database, tmp_path: Path, memories: int
) -> None:
    paths = [tmp_path / f"memory {number % memories}" for number in range(2)]
    async with process(database.server_url) as server:
        org = await new_org(server.database)
        async with (
            signer(database.server_url, paths[0]) as one,
            signer(database.server_url, paths[1]) as two,
        ):
            (leader,) = await leading_signers([one, two], TAKE_OVER_S)
            (other,) = {one, two} - {leader}
            for number in range(10):
                await server.append(org, *[b"%d" % n for n in range(number + 1)])
            await signed(database, org.id, 55)
            leader.kill()
            await server.append(org, b"left behind")
            assert await leading_signers([other], TAKE_OVER_S) == [other]
            await signed(database, org.id, 56)
    await sound_history(database, org)
    async with checkpointer(database.server_url, tmp_path / "third") as third:
        await third.anchor()
    await sound_anchors(database)


async def test_leaders_that_die_all_the_time(database: Database, tmp_path: Path) -> None:
    """Of three signers the leader is killed again and again while entries are appended."""
    memory = tmp_path / "memory"
    async with process(database.server_url) as server:
        orgs = [await new_org(server.database) for _ in range(3)]
        stop = asyncio.Event()

        async def load() -> None:
            while not stop.is_set():
                for org in orgs:
                    await server.append(org, b"x", b"y")

        loading = asyncio.create_task(load())
        for _ in range(4):
            async with (
                signer(database.server_url, memory) as one,
                signer(database.server_url, memory) as two,
            ):
                (leader,) = await leading_signers([one, two], TAKE_OVER_S)
                (other,) = {one, two} - {leader}
                await asyncio.sleep(0.3)
                leader.kill()
                assert await leading_signers([other], TAKE_OVER_S) == [other]
                await asyncio.sleep(0.3)
        stop.set()
        await loading
        async with checkpointer(database.server_url, memory) as last:
            for _ in range(2):
                assert (await last.round()).stopped == []
            while await last.anchor() is not None:
                pass
        for org in orgs:
            assert len(await sound_history(database, org, memory)) > 2
        await sound_anchors(database, memory)


async def signed(database: Database, org_id: int, size: int) -> None:
    """Wait until an org's tree is signed at this size."""
    async with asyncio.timeout(PATIENCE_S):
        while max(await checkpoints_of(database, org_id), default=0) != size:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
