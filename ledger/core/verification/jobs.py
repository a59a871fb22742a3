"""Verification jobs: each process runs a short and a long one at a time; a table has all of them.

The process that takes a job owns it and sends its heartbeats. A job whose heartbeat is
old is reported as failed by every process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from ledger.chain import ChainHead
from ledger.core.lasting import GRACE_S, Lasting, plain
from ledger.core.register.reports import ForgedRowReports
from ledger.core.verification.lanes import WaitingJobs, is_short
from ledger.core.verification.own_jobs import STOPPED, Job, OwnJob, OwnJobs
from ledger.core.verification.run import verify_trail
from ledger.core.verification.work.crew import ArchiveAt
from ledger.core.verification.work.event_check import EventTrust
from ledger.core.verification.work.extent import SigningLimits, TrailRange, check_range
from ledger.core.verification.work.faults import RangeRefused, Result, VerificationFailed
from ledger.core.verification.work.row_check import RowTrust
from ledger.core.verification.work.trust import TrailTrust
from ledger.errors import DatabaseUnavailable, QuireError
from ledger.keys import SigningKeyring
from ledger.rows import RowNotAuthentic
from ledger.storage.verifications import VerificationTable
from ledger.verdict import Verdict

HEARTBEAT_S: Final = 1.0
POLL_S: Final = 0.25
FINISH_ATTEMPTS: Final = 60
UNREADABLE: Final = "the database could not be read to the end; verify again"

OnFaults = Callable[[int, Result], Awaitable[None]]
Events = Callable[[TrailRange], Awaitable[EventTrust | None]]
_log = logging.getLogger(__name__)


async def no_events(_: TrailRange) -> EventTrust | None:
    """Compare no security events."""
    return None


class VerificationJobs:
    """Queues jobs and runs them: short ones one after another, and long ones beside them. Call start before, close after its use."""

    def __init__(  # noqa: PLR0913 - those of verify_trail
        self,
        table: VerificationTable,
        database_url: str,
        keyring: Callable[[], SigningKeyring],
        on_faults: OnFaults,
        forged: ForgedRowReports,
        *,
        trust: Callable[[TrailRange], TrailTrust | None] = lambda _: None,
        archive: ArchiveAt | None = None,
        processes: int | None = None,
        limits: SigningLimits | None = None,
        acknowledged: Callable[[int], ChainHead | None] = lambda _: None,
        index_key: bytes | None = None,
        rows: Callable[[], RowTrust | None] = lambda: None,
        events: Events = no_events,
        on_end: Callable[[TrailRange, str, Result], None] = lambda *_: None,
    ) -> None:
        self._table = table
        self._database_url = database_url
        self._keyring = keyring
        self._on_faults = on_faults
        self._forged = forged
        self._own = OwnJobs()
        self._storing = asyncio.Lock()
        self._trust = trust
        self._archive = archive
        self._processes = processes
        self._limits = limits
        self._acknowledged = acknowledged
        self._index_key = index_key
        self._rows = rows
        self._events = events
        self._on_end = on_end
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._short, self._long = WaitingJobs(), WaitingJobs()
        self._running: set[OwnJob] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start to run jobs, in the running event loop."""
        works = self._work(self._short), self._work(self._long), self._beat()
        self._tasks = [asyncio.create_task(work) for work in works]

    async def close(self) -> None:
        """Stop running jobs; running and waiting jobs are stored as failed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for job in self._short.take_all() + self._long.take_all():
            await self._store_end(job, None, STOPPED, attempts=1)

    async def submit(self, target: TrailRange, asked_by: str = "") -> Job:
        """Queue a verification, ``asked_by`` an API key with this id.

        Raises RangeRefused for a range beyond the trail, QueueFull, DatabaseUnavailable.
        """
        await self._require_range(target)
        waiting = self._short if await is_short(self._table.database, target) else self._long
        waiting.reserve(target.org_id)
        own = OwnJob("ver_" + secrets.token_hex(16), target, asked_by)
        self._own.add(own)
        try:
            await self._table.store(own.row(), self._owner)
        except BaseException:
            waiting.release(target.org_id)
            self._own.drop(own)
            raise
        # A crash from here to the job's end leaves it queued or running in the table, without a
        # heartbeat: it is reported as failed, and a new one must be submitted.
        waiting.add(own)
        return own.job()

    async def _require_range(self, target: TrailRange) -> None:
        """Raise RangeRefused for a range beyond the trail; any other error will fail the job."""
        if not target.from_seq and target.to_seq is None:
            return
        try:
            trust = await asyncio.to_thread(self._trust, target)
            await check_range(self._database_url, target, trust)
        except RangeRefused:
            raise
        except VerificationFailed as error:
            _log.warning("a verification of org %s will fail: %s", target.org, error)

    async def find(self, org_id: int, job_id: str) -> Job | None:
        """Return an org's job, run by any process; None if the org has no job with this id.

        A job of this process is answered from its memory. Raises RowNotAuthentic if the row of
        another was changed or made in the database.
        """
        own = self._own.find(org_id, job_id)
        if own is not None:
            return own
        row = await self._table.find(job_id, org_id)
        if row is None:
            return None
        if not row.is_authentic:
            raise self._report(org_id, job_id)
        return Job.of(row)

    def _report(self, org_id: int, job_id: str) -> RowNotAuthentic:
        """Store an event of a changed row, and return the refusal."""
        detail = (
            f"the row of table verifications with id {job_id} was changed, made or removed in the "
            "database: it is no verdict. Verify again"
        )
        self._forged.found(org_id, detail)
        return RowNotAuthentic(detail)

    async def watch(self, org_id: int, job_id: str) -> AsyncIterator[Job]:
        """Yield the job each time it changes, until it is finished; nothing for an unknown job."""
        last: Job | None = None
        while (job := await self.find(org_id, job_id)) is not None:
            if job != last:
                yield job
            if job.finished:
                return
            last = job
            await asyncio.sleep(POLL_S)

    async def wait(self, org_id: int, job_id: str, timeout_s: float) -> Job | None:
        """Return the job when it is finished, or its state after ``timeout_s``; None if unknown."""
        deadline = time.monotonic() + timeout_s
        while (job := await self.find(org_id, job_id)) is not None:
            left = deadline - time.monotonic()
            if job.finished or left <= 0:
                return job
            await asyncio.sleep(min(POLL_S, left))
        return None

    async def _work(self, waiting: WaitingJobs) -> None:
        while True:
            running = await waiting.take()
            self._running.add(running)
            try:
                await self._run(running, running.target)
            finally:
                self._running.discard(running)
                self._own.ended(running)
                waiting.ended(running.target.org_id)

    async def _run(self, running: OwnJob, target: TrailRange) -> None:
        result, error = None, None
        try:
            try:
                running.begin()
                await self._store(running)
                result = await self._verify(running, target)
                self._on_end(target, running.asked_by, result)
                if result.verdict is Verdict.REFUTED:
                    await self._on_faults(target.org_id, result)
            except DatabaseUnavailable as unavailable:
                _log.error("verification %s of org %s: %s", running.id, target.org, unavailable)
                error = UNREADABLE
            except QuireError as failure:
                _log.error("verification %s of org %s: %s", running.id, target.org, failure)
                error = str(failure)
            except Exception:  # noqa: BLE001 - the next job must run after any error of this one
                _log.exception("verification %s failed with an internal error", running.id)
                error = "an internal error, which the server's log has"
            await self._store_end(running, result, error)
        except asyncio.CancelledError:  # also while its end is stored
            end = self._store_end(running, result, error or STOPPED, attempts=1)
            await asyncio.shield(end)
            raise

    async def _verify(self, running: OwnJob, target: TrailRange) -> Result:
        return await verify_trail(
            self._database_url,
            target,
            self._keyring(),
            trust=await asyncio.to_thread(self._trust, target),
            archive=self._archive,
            processes=self._processes,
            watch=running.note,
            limits=self._limits,
            acknowledged=self._acknowledged(target.org_id),
            index_key=self._index_key,
            rows=await asyncio.to_thread(self._rows),
            events=await self._events(target),
        )

    async def _store_end(
        self,
        running: OwnJob,
        result: Result | None,
        error: str | None,
        *,
        attempts: int = FINISH_ATTEMPTS,
    ) -> None:
        """Set and store the end of a job: done with a result, else failed with an error."""
        running.end(result, error)
        trouble = Lasting(
            "a verification's result can't be stored",
            "a verification's result is stored",
            quiet_s=0,
            grace_s=GRACE_S,
        )
        for _ in range(attempts):
            try:
                await self._store(running)
            except DatabaseUnavailable as unavailable:
                trouble.failed(
                    plain(_log.warning),
                    str(unavailable),
                    early=plain(_log.info),
                    job=running.id,
                )
                await asyncio.sleep(HEARTBEAT_S)
            else:
                trouble.fine()
                return

    async def _store(self, own: OwnJob) -> None:
        """Store a job's state over whatever its row says, and report a row that others changed."""
        async with self._storing:  # a heartbeat must not store an older state over an end
            altered = await self._table.was_altered(own.id)
            await self._table.store(own.row(), self._owner)
        if altered:
            self._report(own.target.org_id, own.id)

    async def _beat(self) -> None:
        trouble = Lasting(
            "verification jobs can't be kept alive",
            "verification jobs are kept alive",
            grace_s=GRACE_S,
        )
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await self._table.beat(self._owner)
                for running in list(self._running):
                    await self._store(running)
            except DatabaseUnavailable as error:
                trouble.failed(plain(_log.warning), str(error), early=plain(_log.info))
            else:
                trouble.fine()
