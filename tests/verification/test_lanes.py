"""Short verifications never wait behind long ones, and waiting orgs take turns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from ledger.core.register.reports import ForgedRowReports
from ledger.core.verification.jobs import VerificationJobs
from ledger.core.verification.lanes import MAX_PER_ORG, WaitingJobs
from ledger.core.verification.own_jobs import MAX_ENDED, OwnJob, OwnJobs
from ledger.core.verification.run import TrailRange
from ledger.storage.database import Database
from ledger.storage.verifications import VerificationTable
from tests.support.trails import ORG, ORG_ID, RING
from tests.support.waiting import PATIENCE_S
from tests.verification.database import Superuser

WHOLE = TrailRange(ORG_ID, ORG)
FEW = TrailRange(ORG_ID, ORG, 0, 9)


@pytest.fixture
async def database(superuser: Superuser) -> AsyncIterator[Database]:
    database = await Database.open(superuser.database.server_url, size=3)
    yield database
    await database.close()


async def test_a_short_verification_ends_while_a_long_one_runs(
    superuser: Superuser, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.core.verification.lanes.SHORT_ENTRIES", 100)
    go_on = threading.Event()

    def trust(target: TrailRange) -> None:
        assert target.to_seq is not None or go_on.wait(PATIENCE_S)

    async def nothing(*_: object) -> None: ...

    jobs = VerificationJobs(
        VerificationTable(database, bytes(32)),
        superuser.database.server_url,
        lambda: RING,
        nothing,
        ForgedRowReports(database),
        trust=trust,
        processes=1,
    )
    jobs.start()
    try:
        long = [await jobs.submit(WHOLE) for _ in range(MAX_PER_ORG)]
        short = await jobs.submit(FEW)
        ended = await jobs.wait(ORG_ID, short.id, PATIENCE_S)
        assert ended is not None
        assert ended.state == "done"
        waiting = await jobs.find(ORG_ID, long[0].id)
        assert waiting is not None
        assert waiting.state == "running"
        go_on.set()
        for job in long:
            found = await jobs.wait(ORG_ID, job.id, PATIENCE_S)
            assert found is not None
            assert found.state == "done"
    finally:
        go_on.set()
        await jobs.close()


def job(org_id: int, number: int) -> OwnJob:
    return OwnJob(f"ver_{org_id}_{number}", TrailRange(org_id, f"org-{org_id}"))


async def test_orgs_take_turns() -> None:
    waiting = WaitingJobs()
    for org_id, count in ((1, 4), (2, 2), (3, 1)):
        for number in range(count):
            waiting.reserve(org_id)
            waiting.add(job(org_id, number))
    taken = [(await waiting.take()).target.org_id for _ in range(7)]
    assert taken == [1, 2, 3, 1, 2, 1, 1]
    taking = asyncio.create_task(waiting.take())
    waiting.reserve(4)
    waiting.add(job(4, 0))
    assert (await taking).target.org_id == 4


def test_the_ended_jobs_of_one_org_do_not_take_the_place_of_another_s() -> None:
    own = OwnJobs()
    first = job(1, 0)
    for one in (first, *(job(2, number) for number in range(MAX_ENDED * 2))):
        own.add(one)
        one.end(None, "it failed")
        own.ended(one)
    assert own.find(1, first.id) is not None
    assert own.find(2, "ver_2_0") is None
    assert own.find(2, first.id) is None
