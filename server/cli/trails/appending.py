"""Appending a stream of events so that a bad line costs itself and no other."""

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
    """A bad line ended the append; what stood before it is appended."""


@dataclass(slots=True)
class AppendOutcome:
    """What became of the lines; `rejected` lists at most MAX_REJECTED_LISTED.

    `last_line` is the last line whose fate is known: appended, or rejected.
    """

    appended: int = 0
    first_seq: int | None = None
    last_seq: int | None = None
    head: Head | None = None
    last_line: int = 0
    rejected_count: int = 0
    rejected: list[BadLine] = field(default_factory=list)

    def took(self, batch: Batch, summary: BatchSummary) -> None:
        self.appended += summary.count
        self.first_seq = summary.first_seq if self.first_seq is None else self.first_seq
        self.last_seq, self.head = summary.last_seq, summary.head
        self.last_line = batch[-1].number

    def refused(self, bad: BadLine) -> None:
        self.rejected_count += 1
        self.last_line = bad.line
        if len(self.rejected) < MAX_REJECTED_LISTED:
            self.rejected.append(bad)


class Appending:
    """One run over a stream; `outcome` is true at every moment, whatever ends the run."""

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
        """Append the lines in order. Raises Stopped at a bad one, or LedgerError."""
        for part in batches(lines):
            if isinstance(part, BadLine):
                self._reject(part)
            else:
                self._append(part)
            self._on_step(self.outcome)

    def _append(self, batch: Batch) -> None:
        """Append a batch; of one that is refused, everything but the lines to blame."""
        while batch:
            try:
                return self._send(batch)
            except _REFUSALS as error:
                index = self._blamed(batch, error)
                if index is None:  # it may be any of them: look for it in the halves
                    middle = len(batch) // 2
                    self._append(batch[:middle])
                    batch = batch[middle:]
                else:
                    self._append(batch[:index])
                    said = error.problem.detail or error.problem.title
                    self._reject(BadLine(batch[index].number, said or "refused"))
                    batch = batch[index + 1 :]
        return None

    def _send(self, batch: Batch) -> None:
        # Named by its lines: a part of a refused batch is another request with another key.
        lines = f"{batch[0].number}-{batch[-1].number}"
        key = None if self._prefix is None else f"{self._prefix}.{lines}"
        events = [line.event for line in batch]
        for summary in self._client.append_many(events, idempotency_key=key, minimal=True):
            self.outcome.took(batch, summary)

    def _blamed(self, batch: Batch, error: ProblemError) -> int | None:
        """The place of the line to blame, None if unknown; raises `error` where no line is."""
        if error.index is not None and 0 <= error.index < len(batch):
            return error.index
        kinds: tuple[type[ProblemError], ...] = (InvalidEventError, PayloadTooLargeError)
        if self._prefix is None:
            # With a prefix it may be the request's key that was used before. Halves have other
            # keys: they would be appended a second time.
            kinds += (IdempotencyMismatchError, ConflictError)
        if not isinstance(error, kinds):
            raise error
        return 0 if len(batch) == 1 else None

    def _reject(self, bad: BadLine) -> None:
        self.outcome.refused(bad)
        self._on_bad_line(bad)
        if not self._keep_going:
            raise AppendStopped
