"""Verifications that wait: short ones apart from long ones, and the orgs in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from ledger.core.shares import OrgShares
from ledger.core.verification.own_jobs import OwnJob
from ledger.core.verification.work.extent import TrailRange
from ledger.errors import QueueFull
from ledger.storage.database import Database
from ledger.storage.entries import heads

SHORT_ENTRIES: Final = 50_000
"""A verification of at most so many entries takes about a second. It never waits for a longer one."""
MAX_WAITING: Final = 64
MAX_PER_ORG: Final = 4
"""Verifications of one org that may wait or run in a lane of a process."""
RETRY_AFTER_S: Final = 10


async def is_short(database: Database, target: TrailRange) -> bool:
    """Return whether a verification has few entries, by the head row of its trail."""
    last = target.to_seq
    if last is None:
        last, _hash, _time = await heads.head(database, target.org_id)
    return last - (target.from_seq or 0) < SHORT_ENTRIES


class WaitingJobs:
    """The waiting jobs of one lane; the next one is of the org whose last turn is longest ago."""

    def __init__(self) -> None:
        self._by_org: dict[int, deque[OwnJob]] = {}
        self._reserved = 0
        self._some = asyncio.Event()
        self._unfinished = OrgShares(total=None, of_org=MAX_PER_ORG, full=_full)

    def reserve(self, org_id: int) -> None:
        """Reserve room for a job, until :meth:`add` or :meth:`release`. Raises QueueFull.

        The org has one more unfinished job in this lane, until :meth:`ended`.
        """
        waiting = self._reserved + sum(map(len, self._by_org.values()))
        if waiting >= MAX_WAITING:
            raise QueueFull(
                f"{MAX_WAITING} verifications are waiting already", retry_after=RETRY_AFTER_S
            )
        self._unfinished.acquire(org_id)
        self._reserved += 1

    def release(self, org_id: int) -> None:
        """Give up reserved room."""
        self._reserved -= 1
        self._unfinished.release(org_id)

    def ended(self, org_id: int) -> None:
        """Record that a job that was taken has ended."""
        self._unfinished.release(org_id)

    def add(self, job: OwnJob) -> None:
        """Queue a job in its reserved room."""
        self._reserved -= 1
        self._by_org.setdefault(job.target.org_id, deque()).append(job)
        self._some.set()

    async def take(self) -> OwnJob:
        """Wait for a job, and remove it."""
        while not self._by_org:
            self._some.clear()
            await self._some.wait()
        org_id = next(iter(self._by_org))
        jobs = self._by_org.pop(org_id)
        job = jobs.popleft()
        if jobs:
            self._by_org[org_id] = jobs  # behind the other orgs
        return job

    def take_all(self) -> list[OwnJob]:
        """Remove all jobs."""
        jobs = [job for jobs in self._by_org.values() for job in jobs]
        self._by_org.clear()
        return jobs


def _full(_everyone: bool) -> QueueFull:
    return QueueFull(
        f"{MAX_PER_ORG} verifications of this org are unfinished; wait for one",
        retry_after=RETRY_AFTER_S,
    )
