"""The protocol without I/O: requests, the meaning of answers, and when to retry.

A ``Call`` is a request with the parser of its answer. The clients in ``sync`` and ``aio`` send
calls and pass the replies to ``read``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar

import msgspec

from ledger.client import errors
from ledger.client.errors import LedgerError, Problem, ProblemError, ProtocolError
from ledger.malformed import misfit

T = TypeVar("T")

PROBLEM_TYPES = "https://quire.dev/problems/"
MAX_RETRY_AFTER_SECONDS = 30.0
"""The longest wait for a retry; where the server asks for a longer one, its error is raised."""

_BY_SLUG: dict[str, type[ProblemError]] = {
    "invalid-request": errors.InvalidRequestError,
    "invalid-event": errors.InvalidEventError,
    "unauthorized": errors.UnauthorizedError,
    "forbidden": errors.ForbiddenError,
    "not-found": errors.NotFoundError,
    "method-not-allowed": errors.MethodNotAllowedError,
    "conflict": errors.ConflictError,
    "not-yet-signed": errors.NotYetSignedError,
    "payload-too-large": errors.PayloadTooLargeError,
    "unsupported-media-type": errors.UnsupportedMediaTypeError,
    "idempotency-mismatch": errors.IdempotencyMismatchError,
    "org-frozen": errors.OrgFrozenError,
    "too-many-requests": errors.TooManyRequestsError,
    "unavailable": errors.UnavailableError,
    "clock-unsteady": errors.UnavailableError,
    "signing-key-missing": errors.UnavailableError,
    "signing-late": errors.UnavailableError,
    "outcome-unknown": errors.OutcomeUnknownError,
    "internal": errors.InternalError,
}

# For refusals without a problem type of Quire: a newer type, or a proxy's answer.
# 503 is missing here: only Quire's own "unavailable" means that nothing was written.
_BY_STATUS: dict[int, type[ProblemError]] = {
    400: errors.InvalidRequestError,
    401: errors.UnauthorizedError,
    403: errors.ForbiddenError,
    404: errors.NotFoundError,
    405: errors.MethodNotAllowedError,
    409: errors.ConflictError,
    413: errors.PayloadTooLargeError,
    415: errors.UnsupportedMediaTypeError,
    429: errors.TooManyRequestsError,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and the parser of its answer.

    ``repeatable``: sending it twice has the same effect as sending it once, as for reads and
    for appends with an idempotency key. ``query`` values are text. The server may take
    ``patience_seconds`` to begin its answer, where that is longer than the client's timeout.
    """

    method: str
    path: str
    parse: Callable[[bytes], T]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    repeatable: bool = False
    idempotency_key: str | None = None
    patience_seconds: float = 0.0


def reader(answer: type[T]) -> Callable[[bytes], T]:
    """Return a parser of JSON bodies of the shape ``answer``."""
    return msgspec.json.Decoder(answer).decode


def read(call: Call[T], reply: Reply) -> T:
    """Return the parsed answer to ``call``.

    Raises ProblemError for a refusal and ProtocolError for any other answer.
    """
    if not 200 <= reply.status < 300:
        raise refusal(reply)
    try:
        return call.parse(reply.body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        reason = misfit(error) if isinstance(error, msgspec.ValidationError) else error
        raise ProtocolError(
            f"{call.method} {call.path} was answered {reply.status} with a body that is not from "
            f"Quire ({reason}). Check the URL, and that the versions of server and client match"
        ) from error


def check_stream(reply: Reply, media: str) -> None:
    """Raise the error of ``reply`` unless its body is a stream of this media type.

    Only the body of a refusal must have been read.
    """
    if not 200 <= reply.status < 300:
        raise refusal(reply)
    found = reply.headers.get("content-type", "").partition(";")[0].strip()
    if found != media:
        raise ProtocolError(
            f"the server answered with {found or 'no content type'} instead of {media}. Check "
            "the URL, and that the versions of server and client match"
        )


def refusal(reply: Reply) -> LedgerError:
    """Return the error for an answer other than 2xx."""
    if reply.status < 400:
        return ProtocolError(
            f"the server answered with status {reply.status}, which Quire never does. "
            "Check the URL (http or https?); redirects are not followed"
        )
    problem = _problem(reply)
    return _error_type(problem)(problem)


def _error_type(problem: Problem) -> type[ProblemError]:
    by_slug = _BY_SLUG.get(problem.type.removeprefix(PROBLEM_TYPES))
    if by_slug is not None:
        return by_slug
    fallback = errors.ServerError if problem.status >= 500 else ProblemError
    return _BY_STATUS.get(problem.status, fallback)


def _problem(reply: Reply) -> Problem:
    document = _document(reply.body)
    return Problem(
        status=reply.status,
        type=_text(document.pop("type", None)) or "about:blank",
        title=_text(document.pop("title", None)),
        detail=_text(document.pop("detail", None)),
        extras=document,
        retry_after=retry_after_seconds(reply.headers),
    )


def _document(body: bytes) -> dict[str, Any]:
    """Return a problem document's members; empty for any other body."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the wait of Retry-After (RFC 9110, section 10.2.3); None without a usable one.

    A date is compared with the answer's own Date: both come from one clock, while the client's
    clock may be wrong.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())


def retry(error: Exception, *, repeatable: bool) -> bool | float:
    """Return whether to retry after ``error``: no, yes, or yes after so many seconds.

    A call that certainly changed nothing is always retried. After any other error the outcome
    is unknown, and only a repeatable call is retried.
    """
    match error:
        case errors.ConnectFailedError():
            return True
        case errors.TooManyRequestsError() | errors.UnavailableError():
            return _delay(error)
        case errors.NotYetSignedError():
            return _delay(error)
        case errors.ServerError():
            return repeatable and _delay(error)
        case errors.ConnectionLostError():
            return repeatable
        case _:
            return False


def _delay(error: ProblemError) -> bool | float:
    if error.retry_after is None:
        return True
    if error.retry_after > MAX_RETRY_AFTER_SECONDS:
        return False
    return error.retry_after
