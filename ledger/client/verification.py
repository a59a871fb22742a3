"""Following a verification job to its verdict, without I/O or clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ledger.client.errors import VerificationFailedError
from ledger.client.models import TrailVerification, VerificationJob

OnProgress: TypeAlias = Callable[[VerificationJob], None]

FIRST_WAIT_SECONDS = 1
"""A short trail is answered within the first request."""
MIN_POLL_SECONDS = 0.1
MAX_POLL_SECONDS = 1.0
MAX_IDLE_POLLS = 900
"""A job that stands still for so many looks, about a quarter of an hour, is given up."""


class PollingDelay:
    """Decides how long to wait before a job is looked at again."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._wait_seconds = MIN_POLL_SECONDS
        self._last: tuple[str, int] | None = None
        self._idle_polls = 0

    @property
    def first_wait_seconds(self) -> int:
        """How long the first request may wait for the end: not at all if progress is wanted."""
        return 0 if self._on_progress else FIRST_WAIT_SECONDS

    def seconds(self, job: VerificationJob) -> float | None:
        """Return how long to wait, None when the job has finished.

        Raises VerificationFailedError for one that does not move any more.
        """
        if self._on_progress:
            self._on_progress(job)
        if job.finished:
            return None
        self._notice(job)
        self._wait_seconds = min(self._wait_seconds * 1.5, MAX_POLL_SECONDS)
        return self._wait_seconds

    def _notice(self, job: VerificationJob) -> None:
        seen = (job.state, job.processed)
        self._idle_polls = self._idle_polls + 1 if seen == self._last else 0
        self._last = seen
        if self._idle_polls >= MAX_IDLE_POLLS:
            raise VerificationFailedError(job, "it has stopped moving; see the server's log")


def verdict(job: VerificationJob) -> TrailVerification:
    """Return a finished job's result. Raises VerificationFailedError if it has none."""
    if job.state != "done" or job.result is None:
        raise VerificationFailedError(job, "the server could not finish it; see its log")
    return job.result
