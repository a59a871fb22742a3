"""Appends any number of events in as many requests as the limits require."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeAlias, TypeVar
from uuid import uuid4

from ledger.client.errors import LedgerError, PartialAppendError
from ledger.client.events import Event, requests
from ledger.client.models import BatchReceipt, BatchSummary, Receipt
from ledger.client.protocol import Call

A = TypeVar("A", BatchReceipt, BatchSummary)
Route: TypeAlias = Callable[[list[bytes], str], Call[A]]


class BulkAppend(Generic[A]):
    """One ``append_many``: its calls in order, and their answers.

    Each request is atomic and has its own idempotency key, derived from the caller's key and the
    request's number. Repeating the whole with the same events and key therefore sends the same
    requests, and the server repeats its first answer to each request that it has written.
    """

    def __init__(
        self, events: Iterable[Event], idempotency_key: str | None, route: Route[A]
    ) -> None:
        self._events = events
        self._key = idempotency_key or uuid4().hex
        self._route: Route[A] = route
        self._durable = 0
        self.answers: list[A] = []

    def calls(self) -> Iterator[Call[A]]:
        """Yield the calls; ask for the next one only after the last one was answered."""
        for number, encoded in enumerate(requests(self._events)):
            yield self._route(encoded, f"{self._key}.{number}" if number else self._key)
            self._durable += len(encoded)

    @contextmanager
    def partial_errors(self) -> Iterator[None]:
        """Turn an error of the block into PartialAppendError where events are durable already."""
        try:
            yield
        except LedgerError as error:
            error.idempotency_key = self._key
            if not self.answers:
                raise
            partial = PartialAppendError(receipts(self.answers), self._durable)
            partial.idempotency_key = self._key
            raise partial from error


def receipts(
    answers: Iterable[BatchReceipt] | Iterable[BatchSummary],
) -> list[Receipt | BatchSummary]:
    """Return the receipts of all answers in order; a summary is returned as it is."""
    found: list[Receipt | BatchSummary] = []
    for answer in answers:
        found.extend(answer.entries if isinstance(answer, BatchReceipt) else [answer])
    return found
