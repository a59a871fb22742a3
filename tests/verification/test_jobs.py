"""Verification jobs: their states, their bounds, and the answers after their server died."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ledger.chain import EMPTY_HEAD
from ledger.core.register.reports import NOT_AUTHENTIC, ForgedRowReports
from ledger.core.verification.jobs import VerificationJobs
from ledger.core.verification.lanes import MAX_PER_ORG, MAX_WAITING
from ledger.core.verification.own_jobs import STOPPED, Job
from ledger.core.verification.run import TrailRange
from ledger.core.verification.work.faults import RangeRefused, Result
from ledger.errors import QueueFull
from ledger.keys import SigningKeyring
from ledger.rows import RowNotAuthentic
from ledger.storage.database import Database
from ledger.storage.verifications import JobRow, VerificationTable
from tests.support.trails import ORG, ORG_ID, RING
from tests.support.waiting import PATIENCE_S
from tests.verification.database import COUNT, HEAD, ROWS, Superuser

WHOLE = TrailRange(ORG_ID, ORG)
ROW_KEY = bytes(32)


class Frozen(list[tuple[int, Result]]):
    """Records the orgs that the jobs report for freezing."""

    async def note(self, org_id: int, result: Result) -> None:
        self.append((org_id, result))


@pytest.fixture
def frozen() -> Frozen:
    return Frozen()


@pytest.fixture
async def database(superuser: Superuser) -> AsyncIterator[Database]:
    database = await Database.open(superuser.database.server_url, size=3)
    yield database
    await database.close()


@pytest.fixture
def jobs_table(database: Database) -> VerificationTable:
    return VerificationTable(database, ROW_KEY)


@pytest.fixture
async def jobs(
    superuser: Superuser, jobs_table: VerificationTable, frozen: Frozen
) -> AsyncIterator[VerificationJobs]:
    jobs = runner(superuser, jobs_table, frozen)
    jobs.start()
    yield jobs
    await jobs.close()


def runner(
    superuser: Superuser, table: VerificationTable, frozen: Frozen, ring: SigningKeyring = RING
) -> VerificationJobs:
    url, forged = superuser.database.server_url, ForgedRowReports(table.database)
    return VerificationJobs(table, url, lambda: ring, frozen.note, forged, processes=2)


async def finished(jobs: VerificationJobs, job: Job) -> Job:
    end = await jobs.wait(ORG_ID, job.id, 60)
    assert end is not None
    assert end.finished
    return end


async def test_a_job_from_queue_to_verdict(jobs: VerificationJobs, frozen: Frozen) -> None:
    job = await jobs.submit(WHOLE)
    assert (job.state, job.result, job.finished_at) == ("queued", None, None)
    end = await finished(jobs, job)
    assert (end.state, end.processed, end.total, end.error) == ("done", COUNT, COUNT, None)
    assert end.rate > 0
    assert end.finished_at is not None
    assert end.result is not None
    assert end.result.valid
    assert frozen == []


async def test_faults_are_reported_and_answered(
    superuser: Superuser, jobs: VerificationJobs, frozen: Frozen
) -> None:
    await superuser.edit(1_000, payload=b"")
    end = await finished(jobs, await jobs.submit(TrailRange(ORG_ID, ORG, 900, 1_100)))
    assert (end.state, end.from_seq, end.to_seq, end.fault_count) == ("done", 900, 1_100, 1)
    assert [(fault.seq, fault.kind) for fault in end.faults] == [(1_000, "payload_mismatch")]
    assert end.result is not None
    assert end.result.errors == end.faults
    assert [(org_id, result.valid) for org_id, result in frozen] == [(ORG_ID, False)]


async def test_jobs_of_another_org_and_unknown_jobs_are_not_found(jobs: VerificationJobs) -> None:
    job = await jobs.submit(WHOLE)
    assert await jobs.find(ORG_ID + 1, job.id) is None
    assert await jobs.wait(ORG_ID, "ver_none", 5) is None
    assert [job async for job in jobs.watch(ORG_ID, "ver_none")] == []
    await finished(jobs, job)


async def test_watching_ends_with_the_verdict(jobs: VerificationJobs) -> None:
    job = await jobs.submit(WHOLE)
    states = [seen.state async for seen in jobs.watch(ORG_ID, job.id)]
    assert states[-1] == "done"
    assert states == sorted(states, key=["queued", "running", "done"].index)


async def test_waiting_gives_up_in_time(
    superuser: Superuser, jobs_table: VerificationTable, frozen: Frozen
) -> None:
    idle = runner(superuser, jobs_table, frozen)
    job = await idle.submit(WHOLE)
    seen = await idle.wait(ORG_ID, job.id, 0.3)
    assert seen is not None
    assert seen.state == "queued"


async def _other_org(superuser: Superuser, number: int) -> TrailRange:
    await superuser.connection.execute(
        "INSERT INTO orgs (id, slug, name, privacy, wrapped_key, mac) VALUES ($1, $2, '', 'plain', '', '')",
        ORG_ID + 1 + number,
        f"other-{number}",
    )
    return TrailRange(ORG_ID + 1 + number, f"other-{number}")


async def test_the_queue_is_bounded(
    superuser: Superuser, jobs_table: VerificationTable, frozen: Frozen
) -> None:
    idle = runner(superuser, jobs_table, frozen)
    waiting = [await idle.submit(WHOLE) for _ in range(MAX_PER_ORG)]
    with pytest.raises(QueueFull, match="of this org"):
        await idle.submit(WHOLE)
    for number in range(MAX_WAITING - MAX_PER_ORG):
        await idle.submit(await _other_org(superuser, number))
    with pytest.raises(QueueFull, match="are waiting already"):
        await idle.submit(await _other_org(superuser, MAX_WAITING))
    await idle.close()
    end = await idle.find(ORG_ID, waiting[-1].id)
    assert end is not None
    assert (end.state, end.error) == ("failed", STOPPED)


async def test_another_process_answers_and_notices_that_the_owner_died(
    superuser: Superuser, jobs_table: VerificationTable, frozen: Frozen
) -> None:
    job = await runner(superuser, jobs_table, frozen).submit(WHOLE)
    other = runner(superuser, jobs_table, frozen)
    seen = await other.find(ORG_ID, job.id)
    assert seen is not None
    assert seen.state == "queued"
    await superuser.execute("UPDATE verifications SET heartbeat_at = now() - interval '31 seconds'")
    end = await other.wait(ORG_ID, job.id, 5)
    assert end is not None
    assert (end.state, end.error, end.result) == ("failed", STOPPED, None)


async def test_waiting_jobs_are_kept_alive(superuser: Superuser, jobs: VerificationJobs) -> None:
    first, second = await jobs.submit(WHOLE), await jobs.submit(WHOLE)
    await superuser.execute("UPDATE verifications SET heartbeat_at = now() - interval '29 seconds'")
    assert (await finished(jobs, first)).state == "done"
    assert (await finished(jobs, second)).state == "done"


async def test_closing_fails_the_running_job(
    superuser: Superuser, jobs_table: VerificationTable, frozen: Frozen
) -> None:
    jobs = runner(superuser, jobs_table, frozen)
    jobs.start()
    job = await jobs.submit(WHOLE)
    async with asyncio.timeout(PATIENCE_S):
        async for seen in jobs.watch(ORG_ID, job.id):
            if seen.state != "queued":
                break
    await jobs.close()
    end = await jobs.find(ORG_ID, job.id)
    assert end is not None
    assert end.state in ("failed", "done")
    assert (end.result is None) == (end.error == STOPPED)


async def test_a_job_that_can_not_run_fails_and_the_next_job_runs(
    superuser: Superuser, jobs_table: VerificationTable, frozen: Frozen
) -> None:
    jobs = runner(superuser, jobs_table, frozen)
    job = await jobs.submit(TrailRange(ORG_ID, ORG, 0, COUNT - 1))
    # The end of the range existed when the job was accepted, and is removed before it runs.
    await superuser.replace_rows(ROWS[:5], HEAD._replace(seq=4, entry_hash=ROWS[4].entry_hash))
    jobs.start()
    bad = await finished(jobs, job)
    assert (bad.state, bad.result) == ("failed", None)
    assert bad.error is not None
    assert f"the range ends at {COUNT - 1}, but the trail of {ORG} ends at 4" in bad.error
    assert (await finished(jobs, await jobs.submit(WHOLE))).state == "done"
    await jobs.close()


async def test_a_range_beyond_the_trail_makes_no_job(
    jobs: VerificationJobs, superuser: Superuser
) -> None:
    count = "SELECT count(*) FROM verifications"
    before = await superuser.connection.fetchval(count)
    for ends in ((COUNT, None), (0, COUNT), (COUNT + 9, COUNT + 10)):
        with pytest.raises(RangeRefused):
            await jobs.submit(TrailRange(ORG_ID, ORG, *ends))
    assert await superuser.connection.fetchval(count) == before


async def test_an_incomplete_verdict_freezes_no_org(
    jobs: VerificationJobs, superuser: Superuser, frozen: Frozen
) -> None:
    await superuser.replace_rows([], EMPTY_HEAD)
    end = await finished(jobs, await jobs.submit(WHOLE))
    assert end.result is not None
    assert (end.result.verdict, end.result.valid, frozen) == ("incomplete", False, [])


FORGE = "UPDATE verifications SET state = 'done', result = $2, finished_at = now() WHERE id = $1"


async def events(superuser: Superuser) -> list[str]:
    rows = await superuser.connection.fetch(
        "SELECT detail FROM security_events WHERE kind = $1", NOT_AUTHENTIC
    )
    return [row[0] for row in rows]


async def test_a_verdict_forged_while_the_job_waits_changes_nothing(
    superuser: Superuser, jobs_table: VerificationTable, frozen: Frozen
) -> None:
    """The row says done and valid: the process freezes and answers by what it computed."""
    jobs = runner(superuser, jobs_table, frozen)
    job = await jobs.submit(WHOLE)
    await superuser.edit(1_000, payload=b"")
    await superuser.connection.execute(FORGE, job.id, '{"valid":true}')
    with pytest.raises(RowNotAuthentic, match=job.id):  # asked from another process
        await runner(superuser, jobs_table, frozen).find(ORG_ID, job.id)
    jobs.start()
    end = await finished(jobs, job)
    assert end.result is not None
    assert (end.state, end.result.valid, end.fault_count) == ("done", False, 1)
    assert [(org_id, result.valid) for org_id, result in frozen] == [(ORG_ID, False)]
    await jobs.close()
    assert await runner(superuser, jobs_table, frozen).find(ORG_ID, job.id) == end
    assert any(job.id in detail for detail in await events(superuser))


async def test_a_row_removed_while_its_job_runs_is_stored_again(
    superuser: Superuser, jobs_table: VerificationTable, frozen: Frozen
) -> None:
    jobs = runner(superuser, jobs_table, frozen)
    job = await jobs.submit(WHOLE)
    await superuser.execute("DELETE FROM verifications")
    jobs.start()
    end = await finished(jobs, job)
    await jobs.close()
    assert await runner(superuser, jobs_table, frozen).find(ORG_ID, job.id) == end
    assert any(job.id in detail for detail in await events(superuser))


class CutOff(VerificationTable):
    """The first store of an end lasts until it is cancelled."""

    reached: asyncio.Event

    async def store(self, row: JobRow, owner: str) -> None:
        if row.finished_at is not None and not self.reached.is_set():
            self.reached.set()
            await asyncio.sleep(2 * PATIENCE_S)
        await super().store(row, owner)


async def test_an_end_is_stored_though_the_server_stops_while_it_is_stored(
    superuser: Superuser, database: Database, frozen: Frozen
) -> None:
    table = CutOff(database, ROW_KEY)
    table.reached = asyncio.Event()
    jobs = runner(superuser, table, frozen)
    job = await jobs.submit(WHOLE)
    jobs.start()
    end = await finished(jobs, job)
    await table.reached.wait()
    await jobs.close()
    assert end.state == "done"
    assert await runner(superuser, table, frozen).find(ORG_ID, job.id) == end


async def test_an_authentic_verdict_is_none_of_another_job(
    superuser: Superuser, jobs: VerificationJobs, jobs_table: VerificationTable, frozen: Frozen
) -> None:
    good = await finished(jobs, await jobs.submit(WHOLE))
    await superuser.edit(1_000, payload=b"")
    bad = await finished(jobs, await jobs.submit(WHOLE))
    await jobs.close()  # both rows are stored
    columns = "state, processed, total, fault_count, faults, result, created_at, finished_at, mac"
    await superuser.connection.execute(
        f"UPDATE verifications SET ({columns}) = "
        f"(SELECT {columns} FROM verifications WHERE id = $1) WHERE id = $2",
        good.id,
        bad.id,
    )
    other = runner(superuser, jobs_table, frozen)
    assert await other.find(ORG_ID, good.id) == good
    with pytest.raises(RowNotAuthentic):
        await other.find(ORG_ID, bad.id)
    assert await jobs.find(ORG_ID, bad.id) == bad
