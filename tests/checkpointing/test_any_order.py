"""Appends, rounds, anchors, crashes and lost memories in any order.

After every step, each checkpoint is the root of a prefix of the trail, no checkpoint was removed
and no org is frozen. In the end all entries are signed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.core.checkpointing import RoundLimits
from ledger.core.org import OrgFacts
from ledger.errors import DatabaseUnavailable
from tests.support.appending import Process, new_org, process
from tests.support.clusters import Database
from tests.support.proxy import CommitFate, Proxy
from tests.support.signing import checkpointer, checkpoints_of, sound_history

COUNTS: Final = (1, 2, 255, 256, 257, 400)
STEPS: Final = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(COUNTS)),
    st.tuples(st.just("sign"), st.integers(1, 3)),
    st.tuples(
        st.just("crash"),
        st.sampled_from([cut for cut in CommitFate if cut is not CommitFate.NOT]),
    ),
    st.tuples(st.just("forget"), st.none()),
)


class Run:
    """One org, its successive signers, and the checks that must hold after each step."""

    def __init__(self, database: Database, server: Process, org: OrgFacts, memory: Path) -> None:
        self._database = database
        self._server = server
        self._org = org
        self._memory = memory
        self._notes: dict[int, bytes] = {}
        self._length = 0
        self._cut = CommitFate.NOT
        self._after = 0

    async def step(self, proxy: Proxy, name: str, how: object) -> None:
        match name, how:
            case "append", int(number):
                await self._server.append(self._org, *[b"x%d" % n for n in range(number)])
                self._length += number
            case "sign", int(number):
                await self._sign(proxy, number)
            case "crash", CommitFate() as cut:
                self._cut, self._after = cut, self._length % 2
                await self._sign(proxy, 2)
            case "forget", _:
                self._memory = self._memory.with_name(uuid4().hex)
        await self._check()

    def decide(self) -> CommitFate:
        """Decide the fate of a COMMIT: a crash step cuts the first or the second COMMIT after it, once."""
        if self._after:
            self._after -= 1
            return CommitFate.NOT
        cut, self._cut = self._cut, CommitFate.NOT
        return cut

    async def _sign(self, proxy: Proxy, rounds: int) -> None:
        pace = RoundLimits(entries_per_org=300, retry_s=0)
        try:
            async with checkpointer(proxy.url, self._memory, pace=pace) as signer:
                for _ in range(rounds):
                    assert (await signer.round()).stopped == []
                    await signer.anchor()
                assert (await signer.sweep()).stopped == []
        except DatabaseUnavailable:
            pass

    async def _check(self) -> None:
        await sound_history(self._database, self._org)
        notes = await checkpoints_of(self._database, self._org.id)
        assert notes.items() >= self._notes.items(), "a checkpoint was taken back"
        self._notes = notes

    async def finish(self, proxy: Proxy) -> None:
        self._cut = CommitFate.NOT
        await self._sign(proxy, 2 + self._length // 300)
        sizes = await sound_history(self._database, self._org, self._memory)
        assert sizes[-1] == self._length


@settings(
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, min_size=3, max_size=10))
async def test_every_checkpoint_is_the_root_of_a_prefix(
    database_of_module: Database, tmp_path: Path, steps: list[tuple[str, object]]
) -> None:
    async with process(database_of_module.server_url) as server, Proxy(database_of_module) as proxy:
        org = await new_org(server.database)
        run = Run(database_of_module, server, org, tmp_path / uuid4().hex)
        proxy.decide = run.decide
        for name, how in steps:
            await run.step(proxy, name, how)
        await run.finish(proxy)
