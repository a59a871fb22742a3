"""The table of verification jobs; any server process can answer for any job."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from ledger.storage.database import Database

ABANDONED_AFTER_S: Final = 30
"""Seconds without a heartbeat after which the process of a job counts as dead."""

CREATE: Final = """
INSERT INTO verifications (id, org_id, from_seq, to_seq, owner) VALUES ($1, $2, $3, $4, $5)"""
FIND: Final = f"""
SELECT id, state, from_seq, to_seq, processed, total, rate, fault_count, faults, result, error,
       created_at, finished_at,
       state IN ('queued', 'running')
           AND heartbeat_at < now() - interval '{ABANDONED_AFTER_S} seconds' AS abandoned
FROM verifications WHERE id = $1 AND org_id = $2"""
START: Final = """
UPDATE verifications SET state = 'running', started_at = now(), heartbeat_at = now()
WHERE id = $1 AND state = 'queued'"""
BEAT: Final = """
UPDATE verifications SET heartbeat_at = now()
WHERE owner = $1 AND state IN ('queued', 'running')"""
ADVANCE: Final = """
UPDATE verifications
SET processed = $2, total = $3, rate = $4, fault_count = $5, faults = $6::jsonb
WHERE id = $1 AND state = 'running'"""
FINISH: Final = """
UPDATE verifications
SET state = $2, processed = $3, total = $4, rate = $5, fault_count = $6, faults = $7::jsonb,
    result = $8::jsonb, error = $9, heartbeat_at = now(), finished_at = now()
WHERE id = $1 AND state IN ('queued', 'running')"""

EXPIRED_AT_ONCE: Final = 1_000
# This includes unfinished jobs whose process is dead.
EXPIRE: Final = f"""
DELETE FROM verifications WHERE id IN (
    (SELECT id FROM verifications WHERE finished_at < $1 ORDER BY finished_at
     LIMIT {EXPIRED_AT_ONCE})
    UNION ALL
    (SELECT id FROM verifications WHERE state IN ('queued', 'running') AND heartbeat_at < $1
     LIMIT {EXPIRED_AT_ONCE}))"""


class JobRow(NamedTuple):
    """One stored job; ``faults`` and ``result`` are JSON text."""

    id: str
    state: str
    from_seq: int | None
    to_seq: int | None
    processed: int
    total: int
    rate: float
    fault_count: int
    faults: str
    result: str | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None
    abandoned: bool


class JobAdvance(NamedTuple):
    """The progress of a job; ``rate`` is in entries per second, ``faults`` is JSON text."""

    processed: int
    total: int
    rate: float
    fault_count: int
    faults: str


class VerificationTable:
    """Jobs by id. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, job_id: str, org_id: int, from_seq: int | None, to_seq: int | None, owner: str
    ) -> None:
        """Store a queued job."""
        await self._database.execute(CREATE, job_id, org_id, from_seq, to_seq, owner)

    async def find(self, job_id: str, org_id: int) -> JobRow | None:
        """Return an org's job, or None if the org has no such job."""
        row = await self._database.fetchrow(FIND, job_id, org_id)
        return None if row is None else JobRow(*row)

    async def start(self, job_id: str) -> None:
        """Record that a queued job is running."""
        await self._database.execute(START, job_id)

    async def beat(self, owner: str) -> None:
        """Record a heartbeat for all jobs of a live process."""
        await self._database.execute(BEAT, owner)

    async def advance(self, job_id: str, advance: JobAdvance) -> None:
        """Store the progress of a running job."""
        await self._database.execute(ADVANCE, job_id, *advance)

    async def finish(
        self, job_id: str, state: str, advance: JobAdvance, result: str | None, error: str | None
    ) -> None:
        """Store a job's end, once: ``state`` is done (with a result) or failed (with an error)."""
        await self._database.execute(FINISH, job_id, state, *advance, result, error)

    async def expire(self, now: datetime, days: int) -> int:
        """Delete the jobs that ended over ``days`` before ``now``; return their number."""
        deleted = 0
        while True:
            tag = await self._database.execute(EXPIRE, now - timedelta(days=days))
            batch = int(tag.rpartition(" ")[2])
            deleted += batch
            if batch < EXPIRED_AT_ONCE:
                return deleted
