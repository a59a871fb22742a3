"""Types that the batches of a sequencer share, take and yield."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ledger.core.sequencer.committing.late import LateAnswer
from ledger.core.sequencer.freezing import Freezes
from ledger.core.sequencer.lane import Lane, SeenHead, SeenHeads
from ledger.core.sequencer.request import Appended, AppendRequest
from ledger.keys import SigningKeyring
from ledger.storage.trail import HeadMove

Refusal = tuple[AppendRequest, Exception]
Answer = tuple[AppendRequest, Appended]


class BatchTools(NamedTuple):
    """The parts that all batches of a sequencer share.

    ``keyring(refresh)`` returns the signing keys, ``clock`` the time in µs, and ``row_key``
    authenticates the rows of idempotency keys.
    """

    heads: SeenHeads
    keyring: Callable[[bool], SigningKeyring]
    clock: Callable[[], int]
    row_key: bytes
    freezes: Freezes


class FoundFault(NamedTuple):
    """An org whose head failed its check, to be frozen after the batch."""

    org_id: int
    org: str
    reason: str


class LaneBatch(NamedTuple):
    """The requests that one lane contributes to a batch."""

    lane: Lane
    requests: list[AppendRequest]


class BatchOutcome:
    """The answers, refusals and head moves of one run; they take effect once its commit is certain.

    ``may_arrive``: it is one statement, which a broken connection may still bring to the database.
    """

    def __init__(self, *, may_arrive: bool = False) -> None:
        self.may_arrive = may_arrive
        self.answers: list[Answer] = []
        self.late: list[LateAnswer] = []
        self.refusals: list[Refusal] = []
        self.moves: list[HeadMove] = []
        self.seen: list[SeenHead] = []
        self.faults: list[FoundFault] = []
        self.entries = 0

    def settle(self) -> None:
        """Answer every caller, after the commit took effect and the new heads are remembered."""
        for request, appended in self.answers:
            request.answer(appended)
        for request, error in self.refusals:
            request.refuse(error)
