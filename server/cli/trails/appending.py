"""Appends a stream of events; a bad line does not affect the lines around it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ledger.client import BatchSummary, Head, LedgerClient
from ledger.client.errors import (
    ConflictError,
    IdempotencyMismatchError,
    InvalidEventError,
    InvalidRequestError,
    PayloadTooLargeError,
    ProblemError,
)
from server.cli.base.ndjson import BadLine, Batch, EventLine, batches

MAX_REJECTED_LISTED = 1_000

_REFUSALS = (
    ConflictError,
    IdempotencyMismatchError,
    InvalidRequestError,
    PayloadTooLargeError,
)


class AppendStopped(Exception):
    """A bad line ended the append; the lines before it are appended."""


@dataclass(slots=True)
class AppendOutcome:
    """The result for the lines; `rejected` lists at most MAX_REJECTED_LISTED.

    `last_line` is the last line that is known to be appended or rejected.
    """

    appended: int = 0
    first_seq: int | None = None
    last_seq: int | None = None
    head: Head | None = None
    last_line: int = 0
    rejected_count: int = 0
    rejected: list[BadLine] = field(default_factory=list)

    def add_batch(self, batch: Batch, summary: BatchSummary) -> None:
        self.appended += summary.count
        self.first_seq = summary.first_seq if self.first_seq is None else self.first_seq
        self.last_seq, self.head = summary.last_seq, summary.head
        self.last_line = batch[-1].number

    def add_rejected(self, bad: BadLine) -> None:
        self.rejected_count += 1
        self.last_line = bad.line
        if len(self.rejected) < MAX_REJECTED_LISTED:
            self.rejected.append(bad)


class Appending:
    """One run over a stream; `outcome` is correct at every moment, however the run ends."""

    def __init__(
        self,
        client: LedgerClient,
        *,
        idempotency_prefix: str | None,
        keep_going: bool,
        on_step: Callable[[AppendOutcome], None],
        on_bad_line: Callable[[BadLine], None],
    ) -> None:
        self.outcome = AppendOutcome()
        self._client = client
        self._prefix = idempotency_prefix
        self._keep_going = keep_going
        self._on_step = on_step
        self._on_bad_line = on_bad_line

    def run(self, lines: Iterable[EventLine | BadLine]) -> None:
        """Append the lines in order. Raises AppendStopped at a bad line, and LedgerError."""
        for part in batches(lines):
            if isinstance(part, BadLine):
                self._reject(part)
            else:
                self._append(part)
            self._on_step(self.outcome)

    def _append(self, batch: Batch) -> None:
        """Append a batch; if it is refused, reject the faulty lines and append the others."""
        while batch:
            try:
                return self._send(batch)
            except _REFUSALS as error:
                index = self._faulty_line(batch, error)
                if index is None:  # it may be any line: try each half
                    middle = len(batch) // 2
                    self._append(batch[:middle])
                    batch = batch[middle:]
                else:
                    self._append(batch[:index])
                    reason = error.problem.detail or error.problem.title
                    self._reject(BadLine(batch[index].number, reason or "refused"))
                    batch = batch[index + 1 :]
        return None

    def _send(self, batch: Batch) -> None:
        # The key names the lines: a part of a refused batch is another request with another key.
        lines = f"{batch[0].number}-{batch[-1].number}"
        key = None if self._prefix is None else f"{self._prefix}.{lines}"
        events = [line.event for line in batch]
        for summary in self._client.append_many(events, idempotency_key=key, minimal=True):
            self.outcome.add_batch(batch, summary)

    def _faulty_line(self, batch: Batch, error: ProblemError) -> int | None:
        """Return the index of the faulty line, None if unknown; raise `error` if there is none."""
        if error.index is not None and 0 <= error.index < len(batch):
            return error.index
        kinds: tuple[type[ProblemError], ...] = (InvalidEventError, PayloadTooLargeError)
        if self._prefix is None:
            # With a prefix, the request's own key may have been used before. Halves have other
            # keys: they would be appended a second time.
            kinds += (IdempotencyMismatchError, ConflictError)
        if not isinstance(error, kinds):
            raise error
        return 0 if len(batch) == 1 else None

    def _reject(self, bad: BadLine) -> None:
        self.outcome.add_rejected(bad)
        self._on_bad_line(bad)
        if not self._keep_going:
            raise AppendStopped
