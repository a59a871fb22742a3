"""The verification jobs of one process, as the process itself knows them.

What a process computed it answers from here: the table holds copies for the other processes, and a
restart.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from ledger.bounded import BoundedCache
from ledger.chain import TrailFault
from ledger.core.verification.run import Progress, TrailRange
from ledger.core.verification.work.faults import Result
from ledger.storage.verifications import JobRow

MAX_ENDED: Final = 64
"""Ended jobs that a process remembers; the table has the older ones."""
MAX_FAULTS_SO_FAR: Final = 100
STOPPED: Final = "the server that ran it stopped"

State = Literal["queued", "running", "done", "failed"]


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

    @classmethod
    def of(cls, row: JobRow) -> Job:
        """Return the job of an authentic row; an abandoned job failed."""
        fields: dict[str, Any] = row._asdict()
        for other in ("org_id", "is_authentic"):
            del fields[other]
        if fields.pop("abandoned"):
            fields.update(state="failed", error=STOPPED)
        fields["faults"] = msgspec.json.decode(row.faults, type=list[TrailFault])
        if row.result is not None:
            fields["result"] = msgspec.json.decode(row.result, type=Result)
        return cls(**fields)


class OwnJob:
    """A job of this process: its range, its progress, and its end; ``asked_by`` is a key's id."""

    def __init__(self, job_id: str, target: TrailRange, asked_by: str = "") -> None:
        self.id = job_id
        self.asked_by = asked_by
        self.target = target
        self._state: State = "queued"
        self._created_at = datetime.now(UTC)
        self._finished_at: datetime | None = None
        self._since = time.monotonic()
        self._progress = Progress(0, 0, 0, [])
        self._rate = 0.0
        self._result: Result | None = None
        self._error: str | None = None

    @property
    def finished(self) -> bool:
        """True if the job ended."""
        return self._finished_at is not None

    def begin(self) -> None:
        """Set the state to running."""
        self._state, self._since = "running", time.monotonic()

    def note(self, progress: Progress) -> None:
        """Keep the newest progress."""
        self._progress = progress
        self._rate = progress.processed / max(time.monotonic() - self._since, 1e-6)

    def end(self, result: Result | None, error: str | None) -> None:
        """Set the end, once: done with a result, even if an error followed it, else failed."""
        if self.finished:
            return
        self._finished_at = datetime.now(UTC)
        self._state = "done" if result else "failed"
        self._result, self._error = result, None if result else error
        if result is not None:
            processed = max(self._progress.processed, result.total_entries)
            self.note(Progress(processed, result.total_entries, result.fault_count, result.errors))

    def row(self) -> JobRow:
        """Return the row of the table that says the same."""
        processed, total, fault_count, faults = self._progress
        result = self._result
        return JobRow(
            self.id,
            self.target.org_id,
            self.target.from_seq,
            self.target.to_seq,
            self._state,
            processed,
            total,
            fault_count,
            msgspec.json.encode(faults[:MAX_FAULTS_SO_FAR]).decode(),
            None if result is None else msgspec.json.encode(result).decode(),
            self._error,
            self._created_at,
            self._finished_at,
            self._rate,
        )

    def job(self) -> Job:
        """Return the job as the API shows it."""
        processed, total, fault_count, faults = self._progress
        return Job(
            self.id,
            self._state,
            self.target.from_seq,
            self.target.to_seq,
            processed,
            total,
            self._rate,
            faults[:MAX_FAULTS_SO_FAR],
            fault_count,
            self._result,
            self._error,
            self._created_at,
            self._finished_at,
        )


class OwnJobs:
    """The unfinished jobs of a process, and the last of those that ended."""

    def __init__(self) -> None:
        self._unfinished: dict[str, OwnJob] = {}
        self._ended: BoundedCache[str, OwnJob] = BoundedCache(MAX_ENDED)

    def add(self, own: OwnJob) -> None:
        """Remember a job until it ends."""
        self._unfinished[own.id] = own

    def ended(self, own: OwnJob) -> None:
        """Remember an ended job, as long as no newer ones of its org, or of many orgs, take its place."""
        del self._unfinished[own.id]
        self._ended.put(own.id, own, own.target.org_id)

    def drop(self, own: OwnJob) -> None:
        """Forget a job that was not stored."""
        del self._unfinished[own.id]

    def find(self, org_id: int, job_id: str) -> Job | None:
        """Return an org's job, or None if it is none of this process."""
        own = self._unfinished.get(job_id) or self._ended.get(job_id, org_id)
        return None if own is None or own.target.org_id != org_id else own.job()
