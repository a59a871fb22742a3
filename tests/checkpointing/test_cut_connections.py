"""Connections cut during COMMIT, also when the COMMIT took effect and only its answer was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest

from ledger.core.checkpointing import Checkpointer
from ledger.core.org import OrgFacts
from ledger.errors import DatabaseUnavailable
from ledger.storage.trees import ANCHOR_LOG
from tests.support.appending import new_org, process
from tests.support.clusters import Database
from tests.support.proxy import CommitFate, Proxy
from tests.support.signing import checkpointer, checkpoints_of, sound_anchors, sound_history

CUTS = [cut for cut in CommitFate if cut is not CommitFate.NOT]
PERSISTED = {CommitFate.AFTER, CommitFate.PANIC}


def once(cut: CommitFate, after: int = 0) -> Iterator[CommitFate]:
    """Cut one COMMIT, the one after ``after`` others; forward all others."""
    return chain(repeat(CommitFate.NOT, after), [cut], repeat(CommitFate.NOT))


async def org_of(database: Database, count: int) -> OrgFacts:
    async with process(database.server_url) as server:
        org = await new_org(server.database)
        await server.append(org, *[b"%d" % n for n in range(count)])
    return org


@pytest.mark.parametrize("cut", CUTS)
async def test_while_a_checkpoint_is_committed(
    database: Database, tmp_path: Path, cut: CommitFate
) -> None:
    org, memory = await org_of(database, 300), tmp_path / "memory"
    decisions = once(cut)
    async with Proxy(database, lambda: next(decisions)) as proxy:
        async with checkpointer(proxy.url, memory) as signer:
            with pytest.raises(DatabaseUnavailable):
                await signer.round()
            with pytest.raises(DatabaseUnavailable):  # it stops without its lock
                await signer.round()
        if cut is not CommitFate.AT_ONCE:
            assert bool(await checkpoints_of(database, org.id)) == (cut in PERSISTED)
        async with process(database.server_url) as server:
            await server.append(org, b"one more")
        async with checkpointer(proxy.url, memory) as signer:
            reports = [await signer.round(), await signer.round()]
            assert [report.stopped for report in reports] == [[], []]
            await signer.anchor()
    assert await sound_history(database, org, memory) == [300, 301]
    assert await sound_anchors(database, memory) == [2]


@pytest.mark.parametrize("cut", CUTS)
async def test_while_an_anchor_is_committed(
    database: Database, tmp_path: Path, cut: CommitFate
) -> None:
    org, memory = await org_of(database, 3), tmp_path / "memory"
    decisions = once(cut, after=1)
    async with Proxy(database, lambda: next(decisions)) as proxy:
        async with checkpointer(proxy.url, memory) as signer:
            assert (await signer.round()).checkpoints == 1
            with pytest.raises(DatabaseUnavailable):
                await signer.anchor()
        if cut is not CommitFate.AT_ONCE:
            assert bool(await checkpoints_of(database, ANCHOR_LOG)) == (cut in PERSISTED)
        async with process(database.server_url) as server:
            await server.append(org, b"one more")
        async with checkpointer(proxy.url, memory) as signer:
            assert (await signer.round()).stopped == []
            while await signer.anchor() is not None:
                pass
    assert await sound_history(database, org, memory) == [3, 4]
    assert await sound_anchors(database, memory) == [1, 2]


async def test_while_leaves_are_read(database: Database, tmp_path: Path) -> None:
    """Cut at any moment of a round with many rows: the round ends, and the next one signs all."""
    org, memory = await org_of(database, 2_000), tmp_path / "memory"
    async with Proxy(database) as proxy:
        for fuse_s in (0.0, 0.002, 0.005, 0.01, 0.02, 0.04):
            async with checkpointer(proxy.url, memory) as signer:
                asyncio.get_running_loop().call_later(fuse_s, proxy.cut_all)
                with pytest.raises(DatabaseUnavailable):
                    await sign_for_ever(signer)
    async with checkpointer(database.server_url, memory) as signer:
        await signer.round()
        await signer.anchor()
    assert await sound_history(database, org, memory) == [2_000]
    assert await sound_anchors(database, memory) == [1]


async def sign_for_ever(signer: Checkpointer) -> None:
    while True:
        assert (await signer.round()).stopped == []
        await signer.anchor()
