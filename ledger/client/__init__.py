"""The client of a Quire server, for plain code and for asyncio.

::

    from ledger.client import LedgerClient

    with LedgerClient("http://127.0.0.1:8080", api_key) as ledger:
        receipt = ledger.append({"event_type": "user.login", "actor": "alice"})

``ledger.client.errors`` draws the tree of errors; all of them are re-exported here.
"""

from ledger.client.aio import AsyncLedgerClient
from ledger.client.batching import Batching
from ledger.client.errors import (
    ClientClosedError,
    ConflictError,
    ConnectFailedError,
    ConnectionLostError,
    EventEncodingError,
    ForbiddenError,
    IdempotencyMismatchError,
    InternalError,
    InvalidArgumentError,
    InvalidEventError,
    InvalidRequestError,
    LedgerError,
    MethodNotAllowedError,
    NotFoundError,
    OrgFrozenError,
    OutcomeUnknownError,
    PartialAppendError,
    PayloadTooLargeError,
    Problem,
    ProblemError,
    ProtocolError,
    ServerError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedMediaTypeError,
    VerificationFailedError,
)
from ledger.client.events import Event
from ledger.client.models import (
    ApiKey,
    BatchSummary,
    CreatedApiKey,
    Entry,
    EntryChecks,
    EntryFilters,
    EntryVerification,
    Erasure,
    Fault,
    Freeze,
    Head,
    Identity,
    Org,
    Receipt,
    TrailChecks,
    TrailVerification,
    Verdict,
    VerificationJob,
)
from ledger.client.sync import LedgerClient

__all__ = [
    "ApiKey",
    "AsyncLedgerClient",
    "BatchSummary",
    "Batching",
    "ClientClosedError",
    "ConflictError",
    "ConnectFailedError",
    "ConnectionLostError",
    "CreatedApiKey",
    "Entry",
    "EntryChecks",
    "EntryFilters",
    "EntryVerification",
    "Erasure",
    "Event",
    "EventEncodingError",
    "Fault",
    "ForbiddenError",
    "Freeze",
    "Head",
    "IdempotencyMismatchError",
    "Identity",
    "InternalError",
    "InvalidArgumentError",
    "InvalidEventError",
    "InvalidRequestError",
    "LedgerClient",
    "LedgerError",
    "MethodNotAllowedError",
    "NotFoundError",
    "Org",
    "OrgFrozenError",
    "OutcomeUnknownError",
    "PartialAppendError",
    "PayloadTooLargeError",
    "Problem",
    "ProblemError",
    "ProtocolError",
    "Receipt",
    "ServerError",
    "TooManyRequestsError",
    "TrailChecks",
    "TrailVerification",
    "UnauthorizedError",
    "UnavailableError",
    "UnsupportedMediaTypeError",
    "Verdict",
    "VerificationFailedError",
    "VerificationJob",
]
