"""Follows a verification job to its verdict, without I/O or clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ledger.client.errors import VerificationFailedError
from ledger.client.models import TrailVerification, VerificationJob

OnProgress: TypeAlias = Callable[[VerificationJob], None]

FIRST_WAIT_SECONDS = 1
"""The wait of the first request, within which a short trail is verified."""
MIN_POLL_SECONDS = 0.1
MAX_POLL_SECONDS = 1.0
MAX_IDLE_POLLS = 900
"""Polls without progress, about a quarter of an hour, after which the client gives up."""


class PollingDelay:
    """Decides how long to wait before the next poll of a job."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._wait_seconds = MIN_POLL_SECONDS
        self._last: tuple[str, int] | None = None
        self._idle_polls = 0

    @property
    def first_wait_seconds(self) -> int:
        """How long the first request waits for the verdict; 0 where progress is reported."""
        return 0 if self._on_progress else FIRST_WAIT_SECONDS

    def seconds(self, job: VerificationJob) -> float | None:
        """Return how long to wait, None when the job has finished.

        Raises VerificationFailedError for a job without progress.
        """
        if self._on_progress:
            self._on_progress(job)
        if job.finished:
            return None
        self._check_progress(job)
        self._wait_seconds = min(self._wait_seconds * 1.5, MAX_POLL_SECONDS)
        return self._wait_seconds

    def _check_progress(self, job: VerificationJob) -> None:
        progress = (job.state, job.processed)
        self._idle_polls = self._idle_polls + 1 if progress == self._last else 0
        self._last = progress
        if self._idle_polls >= MAX_IDLE_POLLS:
            raise VerificationFailedError(job, "it makes no progress; see the server's log")


def verdict(job: VerificationJob) -> TrailVerification:
    """Return a finished job's result. Raises VerificationFailedError if it has none."""
    if job.state != "done" or job.result is None:
        raise VerificationFailedError(job, "the server could not finish it; see the server's log")
    return job.result
