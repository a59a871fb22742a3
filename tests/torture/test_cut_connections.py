"""A proxy cuts connections to PostgreSQL at random, also during COMMIT."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from itertools import count

import pytest

from ledger.core.org import OrgFacts
from ledger.core.sequencer import KeyDigest, SequencerLimits
from ledger.errors import DatabaseUnavailable
from tests.support.appending import Process, new_org, process, sound_trail, until
from tests.support.clusters import Database
from tests.support.proxy import CommitFate, Proxy

COMMITS = 100
ORGS = 3
CLIENTS = 6
PAUSE_S = 0.002
LONGEST_FUSE_S = 0.03


class Clients:
    """Clients of one process: some retry under a key until they are answered, some send once."""

    def __init__(self, mine: Process, name: str, orgs: list[OrgFacts]) -> None:
        self._mine = mine
        self._name = name
        self._orgs = orgs
        self.acknowledged: dict[tuple[int, bytes], int] = {}
        self.given_up = 0

    async def run(self, client: int, stop: asyncio.Event) -> None:
        keyed = client % 2 == 0
        for number in count():
            if stop.is_set():
                break
            org = self._orgs[number % len(self._orgs)]
            text = f"{self._name}-{client}-{number}"
            key = KeyDigest(text.encode().ljust(32, b"."), bytes(16)) if keyed else None
            payloads = [f"{text}-{part}".encode() for part in range(1 + number % 3)]
            while not await self._send(org, payloads, key) and keyed:  # noqa: ASYNC110 - a pause
                await asyncio.sleep(PAUSE_S)

    async def _send(self, org: OrgFacts, payloads: list[bytes], key: KeyDigest | None) -> bool:
        try:
            appended = await self._mine.append(org, *payloads, idempotency=key)
        except DatabaseUnavailable:
            self.given_up += 1
            return False
        for payload, receipt in zip(payloads, appended.receipts(), strict=True):
            self.acknowledged[org.id, payload] = receipt.seq
        return True


async def lines_cut(proxy: Proxy, luck: random.Random, stop: asyncio.Event) -> int:
    """Cut all connections at random moments, after some COMMITs each; returns the number of cuts."""
    for cuts in count():
        through = proxy.commits + luck.randrange(5)
        while proxy.commits < through and not stop.is_set():  # noqa: ASYNC110 - at random
            await asyncio.sleep(luck.uniform(0, LONGEST_FUSE_S))
        if stop.is_set():
            return cuts
        await asyncio.sleep(luck.uniform(0, LONGEST_FUSE_S))
        proxy.cut_all()
    raise AssertionError


@pytest.mark.parametrize("retry_s", [15.0, 0.0], ids=["retrying", "giving up at once"])
async def test_no_acknowledged_loss_and_no_duplicate(
    shared_database: Database, retry_s: float
) -> None:
    seed = random.randrange(2**32)
    luck = random.Random(seed)
    cuts: Counter[CommitFate] = Counter()

    every = iter(list(CommitFate) * 3)

    def decide() -> CommitFate:
        cut = next(every, None) or (
            luck.choice(list(CommitFate)) if luck.random() < 0.4 else CommitFate.NOT
        )
        cuts[cut] += 1
        return cut

    limits = SequencerLimits(retry_s=retry_s)
    async with (
        Proxy(shared_database, decide) as proxy,
        process(proxy.url, limits=limits) as one,
        process(proxy.url, limits=limits) as two,
    ):
        async with process(shared_database.server_url) as direct:
            orgs = [await new_org(direct.database) for _ in range(ORGS)]
        stop = asyncio.Event()
        clients = [Clients(each, name, orgs) for each, name in ((one, "one"), (two, "two"))]
        running = [
            asyncio.create_task(each.run(client, stop))
            for each in clients
            for client in range(CLIENTS)
        ]
        cutting = asyncio.create_task(lines_cut(proxy, luck, stop))
        await until(lambda: proxy.commits >= COMMITS, f"{COMMITS} COMMITs sent", 150)
        assert not any(task.done() for task in running)
        stop.set()
        await asyncio.gather(*running, cutting)
        assert one.sequencer.waiting_bytes == two.sequencer.waiting_bytes == 0
    details = f"seed {seed}, {dict(cuts)}, {cutting.result()} cuts"
    assert all(cuts[cut] for cut in CommitFate), details
    acknowledged = clients[0].acknowledged | clients[1].acknowledged
    for org in orgs:
        payloads = await sound_trail(shared_database, org)
        assert len(set(payloads)) == len(payloads), details
        mine = {payload: seq for (org_id, payload), seq in acknowledged.items() if org_id == org.id}
        assert all(payloads[seq] == payload for payload, seq in mine.items()), details
        # No client got the answer "not written" for an event that was written.
        assert len(mine) == len(payloads), details
    assert len(acknowledged) > COMMITS // 3, details
