"""Batches past the lanes: one at a time, so that they never take all connections for appends."""

from __future__ import annotations

import asyncio

import pytest

from ledger.core.sequencer import sequencer as module
from ledger.core.sequencer.batch import Batch
from ledger.core.sequencer.outcome import BatchOutcome
from ledger.core.sequencer.together import WholeBatch
from ledger.errors import QueueFull
from tests.support.appending import held_head, new_org, process, request, until
from tests.support.clusters import Database


async def test_batches_that_wait_for_a_head_hold_up_no_other_org(
    shared_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(shared_database.server_url) as ours:
        held, other = await new_org(ours.database), await new_org(ours.database)
        committer, running = ours.sequencer._committer, 0
        commit = committer.commit

        async def counted(batch: Batch) -> BatchOutcome:
            nonlocal running
            if not isinstance(batch, WholeBatch):
                return await commit(batch)
            running += 1
            assert running == 1, "the other connection is left to the lanes"
            try:
                return await commit(batch)
            finally:
                running -= 1

        monkeypatch.setattr(committer, "commit", counted)
        monkeypatch.setattr(module, "MAX_TOGETHER", 5)
        async with held_head(shared_database, held):
            waiting = [
                asyncio.create_task(ours.sequencer.append_together([request(held, b"together")]))
                for _ in range(5)
            ]
            await until(lambda: running, "the first batch")
            assert (await ours.append(other, b"alone")).head.seq == 0
            with pytest.raises(QueueFull, match="changes are waiting"):
                await ours.sequencer.append_together([request(held, b"too many")])
        appended = await asyncio.gather(*waiting)
        assert sorted(one.head.seq for (one,) in appended) == [*range(5)]
