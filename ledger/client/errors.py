"""Every error the client raises, as one tree.

::

    QuireError                          base of all of Quire's errors
    └── LedgerError                     base of all the client's errors
        ├── InvalidArgumentError        a call that can't be sent as it is (also a ValueError)
        │   └── EventEncodingError      an event that is not one JSON object
        ├── ClientClosedError           the client or the batching context is closed
        ├── ConnectFailedError          no connection: nothing was sent
        ├── ConnectionLostError         the connection broke after sending: outcome unknown
        ├── ProtocolError               an answer that is not from Quire
        ├── PartialAppendError          append_many failed after some requests succeeded
        ├── VerificationFailedError     a verification job that could not run to its end
        └── ProblemError                the server refused, with an RFC 9457 problem document
            ├── InvalidRequestError         400
            │   └── InvalidEventError       400, with index and field
            ├── UnauthorizedError           401
            ├── ForbiddenError              403
            ├── NotFoundError               404
            ├── MethodNotAllowedError       405
            ├── ConflictError               409
            │   └── NotYetSignedError       409, with retry_after: no checkpoint includes it yet
            ├── PayloadTooLargeError        413
            ├── UnsupportedMediaTypeError   415
            ├── IdempotencyMismatchError    422
            ├── OrgFrozenError              423, with reason
            ├── TooManyRequestsError        429, with retry_after
            └── ServerError                 5xx
                ├── UnavailableError        503, with retry_after: nothing was written
                ├── OutcomeUnknownError     503: whether it was written is not known yet
                └── InternalError           500

All of them can be copied and pickled, and none holds the API key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ledger.errors import QuireError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.client.models import BatchSummary, Receipt, VerificationJob


class LedgerError(QuireError):
    """Base of the client's errors.

    ``idempotency_key`` is the key of a failed append, None for other calls. Repeating the
    append with this key can't write it twice.
    """

    idempotency_key: str | None = None


class InvalidArgumentError(LedgerError, ValueError):
    """A call that can't be sent as it is; nothing was sent."""


class EventEncodingError(InvalidArgumentError):
    """An event that is not one JSON object; nothing of its request was sent.

    ``index`` is its 0-based index among the given events, None for a single event.
    """

    def __init__(self, reason: str, index: int | None = None) -> None:
        super().__init__(reason, index)
        self.reason = reason
        self.index = index

    def __str__(self) -> str:
        place = "the event" if self.index is None else f"event {self.index}"
        return f"{place} can't be sent: {self.reason}"


class ClientClosedError(LedgerError):
    """A call on a client, or a batching context, that is closed."""


class ConnectFailedError(LedgerError):
    """No connection to the server could be made in time; nothing was sent."""


class ConnectionLostError(LedgerError):
    """The connection broke, or the answer did not come in time, after sending began.

    Whether the server carried out the call is unknown.
    """


class ProtocolError(LedgerError):
    """An answer that is not from Quire: another server, a proxy, or a bug."""


class PartialAppendError(LedgerError):
    """``append_many`` failed after earlier requests of the same call succeeded.

    ``done`` holds the answers to these requests: their events are durable. ``first_missing``
    is the 0-based index of the first event that is not known to be durable. ``__cause__`` is
    the error. Calling again with the same events and this error's ``idempotency_key`` writes
    only the missing events.
    """

    def __init__(self, done: Sequence[Receipt | BatchSummary], first_missing: int) -> None:
        super().__init__(done, first_missing)
        self.done = done
        self.first_missing = first_missing

    def __str__(self) -> str:
        return (
            f"the first {self.first_missing} events are durable, the others may not be: "
            f"{self.__cause__}. Call again with the same events and "
            f"idempotency_key={self.idempotency_key!r} to write the missing ones"
        )


class VerificationFailedError(LedgerError):
    """A verification job that ended without a verdict, or made no more progress.

    The trail was not verified; it may be right or wrong. ``job`` is the job's last known state.
    """

    def __init__(self, job: VerificationJob, reason: str) -> None:
        super().__init__(job, reason)
        self.job = job
        self.reason = reason

    def __str__(self) -> str:
        return f"verification {self.job.id} gave no verdict: {self.reason}"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a refusal: an RFC 9457 problem document and its Retry-After.

    ``extras`` are the document's other members; ``retry_after`` is in seconds.
    """

    status: int
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    extras: dict[str, Any] = {}
    retry_after: float | None = None


class ProblemError(LedgerError):
    """The server refused the call. ``problem`` has its reason."""

    hint = ""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        reason = self.problem.detail or self.problem.title or "the server gave no reason"
        text = f"{reason} ({self.problem.status})"
        return f"{text}. {self.hint}" if self.hint else text

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def retry_after(self) -> float | None:
        """The seconds to wait that the server asked for, None where it did not."""
        return self.problem.retry_after

    def _text(self, name: str) -> str | None:
        value = self.problem.extras.get(name)
        return value if isinstance(value, str) else None

    @property
    def index(self) -> int | None:
        """The refused event's 0-based index in its request; None where no single event is at fault."""
        value = self.problem.extras.get("index")
        return value if isinstance(value, int) and not isinstance(value, bool) else None


class InvalidRequestError(ProblemError):
    """400: a request that the server can't process as it is."""


class InvalidEventError(InvalidRequestError):
    """400: an event that can't be recorded; the whole request was refused."""

    def __str__(self) -> str:
        place = "" if self.index is None else f"event {self.index}: "
        return place + super().__str__()

    @property
    def field(self) -> str | None:
        """The name of the invalid field, None where the event as a whole is invalid."""
        return self._text("field")


class UnauthorizedError(ProblemError):
    """401: no API key, or one that is unknown or revoked."""

    hint = "Check the API key"


class ForbiddenError(ProblemError):
    """403: a key whose role does not allow this call."""


class NotFoundError(ProblemError):
    """404: the object does not exist, or belongs to another tenant."""


class MethodNotAllowedError(ProblemError):
    """405: the server does not know this call; it may be older than this client."""


class ConflictError(ProblemError):
    """409: the current state does not allow this call."""


class NotYetSignedError(ConflictError):
    """409: no checkpoint includes the entry yet; the signer follows within seconds."""


class PayloadTooLargeError(ProblemError):
    """413: an event, or a request, over the server's limits."""


class UnsupportedMediaTypeError(ProblemError):
    """415: a content type that the server does not accept."""


class IdempotencyMismatchError(ProblemError):
    """422: this idempotency key was used before, with another body."""


class OrgFrozenError(ProblemError):
    """423: the trail failed an integrity check and takes no entries until it is thawed."""

    @property
    def reason(self) -> str | None:
        """Why the org was frozen."""
        return self._text("reason")


class TooManyRequestsError(ProblemError):
    """429: a queue is full; nothing was written."""


class ServerError(ProblemError):
    """5xx: the server failed."""


class UnavailableError(ServerError):
    """503: the server can't work right now; nothing was written."""


class OutcomeUnknownError(ServerError):
    """503: the server does not know yet whether its commit succeeded."""

    hint = "Repeat the append with the same idempotency key to find out"


class InternalError(ServerError):
    """500: an error inside the server."""
