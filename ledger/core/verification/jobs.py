"""Verification jobs: each process of the server runs one at a time; a table has all of them.

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
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from ledger.chain import ChainHead, TrailFault
from ledger.core.lasting import GRACE_S, Lasting, plain
from ledger.core.shares import OrgShares
from ledger.core.verification.run import Progress, verify_trail
from ledger.core.verification.work.crew import ArchiveAt
from ledger.core.verification.work.extent import SigningLimits, TrailRange, check_range
from ledger.core.verification.work.faults import RangeRefused, Result, VerificationFailed
from ledger.core.verification.work.trust import TrailTrust
from ledger.errors import DatabaseUnavailable, QueueFull, QuireError
from ledger.keys import SigningKeyring
from ledger.storage.verifications import JobAdvance, JobRow, VerificationTable
from ledger.verdict import Verdict

MAX_WAITING: Final = 16
MAX_PER_ORG: Final = 4
"""Verifications of one org that may wait or run in a process, so that other orgs get their turn."""
HEARTBEAT_S: Final = 1.0
POLL_S: Final = 0.25
FINISH_ATTEMPTS: Final = 60
RETRY_AFTER_S: Final = 10
MAX_FAULTS_SO_FAR: Final = 100
UNREADABLE: Final = "the database could not be read to the end; verify again"
STOPPED: Final = "the server that ran it stopped"

State = Literal["queued", "running", "done", "failed"]
OnFaults = Callable[[int, Result], Awaitable[None]]
_log = logging.getLogger(__name__)


class Job(msgspec.Struct, frozen=True):
    """A verification as the API shows it; ``rate`` is in entries a second.

    ``faults`` are the first of those found so far; ``error`` says why the job failed,
    which says nothing about the trail.
    """

    id: str
    state: State
    from_seq: int | None
    to_seq: int | None
    processed: int
    total: int
    rate: float
    faults: list[TrailFault]
    fault_count: int
    result: Result | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None

    @property
    def finished(self) -> bool:
        """True if the job will not change any more."""
        return self.state in ("done", "failed")


class VerificationJobs:
    """Queues jobs and runs them one after another. Call start before, close after its use."""

    def __init__(  # noqa: PLR0913 - those of verify_trail
        self,
        table: VerificationTable,
        database_url: str,
        keyring: Callable[[], SigningKeyring],
        on_faults: OnFaults,
        *,
        trust: Callable[[TrailRange], TrailTrust | None] = lambda _: None,
        archive: ArchiveAt | None = None,
        processes: int | None = None,
        limits: SigningLimits | None = None,
        acknowledged: Callable[[int], ChainHead | None] = lambda _: None,
        index_key: bytes | None = None,
    ) -> None:
        self._table = table
        self._database_url = database_url
        self._keyring = keyring
        self._on_faults = on_faults
        self._trust = trust
        self._archive = archive
        self._processes = processes
        self._limits = limits
        self._acknowledged = acknowledged
        self._index_key = index_key
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._waiting: asyncio.Queue[tuple[str, TrailRange]] = asyncio.Queue()
        self._reserved = 0
        self._unfinished = OrgShares(total=None, of_org=MAX_PER_ORG, full=_full)
        self._running: _Running | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start to run jobs, in the running event loop."""
        self._tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._beat())]

    async def close(self) -> None:
        """Stop running jobs; running and waiting jobs are stored as failed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while not self._waiting.empty():
            job_id, _target = self._waiting.get_nowait()
            await self._store_end(_Running(job_id), None, STOPPED, attempts=1)

    async def submit(self, target: TrailRange) -> Job:
        """Queue a verification.

        Raises RangeRefused for a range beyond the trail, QueueFull, DatabaseUnavailable.
        """
        await self._require_range(target)
        if self._reserved >= MAX_WAITING:
            raise QueueFull(
                f"{MAX_WAITING} verifications are waiting already", retry_after=RETRY_AFTER_S
            )
        self._unfinished.acquire(target.org_id)
        self._reserved += 1
        try:
            job_id = "ver_" + secrets.token_hex(16)
            await self._table.create(
                job_id, target.org_id, target.from_seq, target.to_seq, self._owner
            )
        except BaseException:
            self._reserved -= 1
            self._unfinished.release(target.org_id)
            raise
        # A crash from here to the job's end leaves it queued or running in the table, without a
        # heartbeat: it is reported as failed, and a new one must be submitted.
        self._waiting.put_nowait((job_id, target))
        job = await self.find(target.org_id, job_id)
        assert job is not None, "it was just stored"
        return job

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
        """An org's job, run by any process; None if the org has no job with this id."""
        row = await self._table.find(job_id, org_id)
        return None if row is None else _job(row)

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

    async def _work(self) -> None:
        while True:
            job_id, target = await self._waiting.get()
            self._reserved -= 1
            self._running = running = _Running(job_id)
            try:
                await self._run(running, target)
            finally:
                self._running = None
                self._unfinished.release(target.org_id)

    async def _run(self, running: _Running, target: TrailRange) -> None:
        result: Result | None = None
        try:
            await self._table.start(running.job_id)
            result = await verify_trail(
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
            )
            if result.verdict is Verdict.REFUTED:
                await self._on_faults(target.org_id, result)
        except asyncio.CancelledError:
            await asyncio.shield(self._store_end(running, result, STOPPED, attempts=1))
            raise
        except DatabaseUnavailable as error:
            _log.error("verification %s of org %s: %s", running.job_id, target.org, error)
            await self._store_end(running, result, UNREADABLE)
        except QuireError as error:
            _log.error("verification %s of org %s: %s", running.job_id, target.org, error)
            await self._store_end(running, result, str(error))
        except Exception:  # noqa: BLE001 - the next job must run after any error of this one
            _log.exception("verification %s failed with an internal error", running.job_id)
            await self._store_end(running, result, "an internal error, which the server's log has")
        else:
            await self._store_end(running, result, None)

    async def _store_end(
        self,
        running: _Running,
        result: Result | None,
        error: str | None,
        *,
        attempts: int = FINISH_ATTEMPTS,
    ) -> None:
        """Store the end of a job: done with a result, even if an error followed it, else failed."""
        state = "done" if result else "failed"
        text = msgspec.json.encode(result).decode() if result else None
        advance = running.advance(result)
        trouble = Lasting(
            "a verification's result can't be stored",
            "a verification's result is stored",
            quiet_s=0,
            grace_s=GRACE_S,
        )
        for _ in range(attempts):
            try:
                await self._table.finish(
                    running.job_id, state, advance, text, None if result else error
                )
            except DatabaseUnavailable as unavailable:
                trouble.failed(
                    plain(_log.warning),
                    str(unavailable),
                    early=plain(_log.info),
                    job=running.job_id,
                )
                await asyncio.sleep(HEARTBEAT_S)
            else:
                trouble.fine()
                return

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
                if (running := self._running) is not None:
                    await self._table.advance(running.job_id, running.advance(None))
            except DatabaseUnavailable as error:
                trouble.failed(plain(_log.warning), str(error), early=plain(_log.info))
            else:
                trouble.fine()


def _full(_everyone: bool) -> QueueFull:
    return QueueFull(
        f"{MAX_PER_ORG} verifications of this org are unfinished; wait for one",
        retry_after=RETRY_AFTER_S,
    )


class _Running:
    """The progress of the running job."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self._since = time.monotonic()
        self._progress = Progress(0, 0, 0, [])

    def note(self, progress: Progress) -> None:
        """Keep the newest progress."""
        self._progress = progress

    def advance(self, result: Result | None) -> JobAdvance:
        """The progress to store; ``result`` is None until the job has one."""
        processed, total, fault_count, faults = self._progress
        if result is not None:
            processed, total = max(processed, result.total_entries), result.total_entries
            fault_count, faults = result.fault_count, result.errors
        rate = processed / max(time.monotonic() - self._since, 1e-6)
        named = msgspec.json.encode(faults[:MAX_FAULTS_SO_FAR]).decode()
        return JobAdvance(processed, total, rate, fault_count, named)


def _job(row: JobRow) -> Job:
    fields: dict[str, Any] = row._asdict()
    if fields.pop("abandoned"):
        fields.update(state="failed", error=STOPPED)
    fields["faults"] = msgspec.json.decode(row.faults, type=list[TrailFault])
    if row.result is not None:
        fields["result"] = msgspec.json.decode(row.result, type=Result)
    return Job(**fields)
