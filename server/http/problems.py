"""RFC 9457 problem documents: the answers to all errors of the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from ledger.core.lasting import GRACE_S, SILENT_S, Lasting, LastingByKey
from ledger.core.proving import NotYetSigned
from ledger.errors import (
    INVALID_REQUEST,
    NOT_FOUND,
    UNAVAILABLE,
    DatabaseUnavailable,
    InvalidEvent,
    PayloadTooLarge,
    ProblemType,
    QueueFull,
    QuireError,
)
from ledger.malformed import misfit
from ledger.rows import RowNotAuthentic
from server import metrics
from server.access.limits.rules import RateLimited
from server.access.principal import Forbidden, Unauthorized
from server.http.contract import ADMITTED
from server.http.protocol.address import address_of
from server.http.protocol.bytes_response import BytesResponse
from server.http.protocol.reads import allowed
from server.http.protocol.watching.address_log import AddressLog
from server.trails.appending import UnsupportedBody

log = structlog.get_logger("quire")

_trouble = LastingByKey("requests fail", "requests no longer fail", silent_s=SILENT_S)
_bugs = LastingByKey(
    "requests fail unexpectedly", "requests no longer fail unexpectedly", silent_s=SILENT_S
)
_database_trouble = Lasting(
    "the database can't serve a request",
    "the database serves requests again",
    grace_s=GRACE_S,
    silent_s=SILENT_S,
)

_refusals = AddressLog("a caller is refused")

LOGGED: Final = frozenset({401, 403, 429})
"""Refusals that tell an operator who tries keys, or who sends too much: logged by address."""
BODY_TOO_LARGE: Final = "body_too_large"
BODY_MALFORMED: Final = "body_malformed"
"""The kinds of security events of bodies."""
MEDIA_TYPE: Final = "application/problem+json"
TYPE_BASE: Final = "https://quire.dev/problems/"
RETRY_AFTER_S: Final = 1
NO_PATH: Final = (
    "there is no such path; docs describes the API, readyz says whether the server works"
)


class BadRequest(QuireError):
    """The parameters or the body of a request are not valid."""

    problem_type = INVALID_REQUEST


class MalformedBody(BadRequest):
    """The body of a request can't be read as what its route takes."""


class RequestTimeout(QuireError):
    """The body of a request did not arrive in time."""

    problem_type = ProblemType(
        "request-timeout",
        408,
        "The request took too long to arrive",
        "the body arrives too slowly: send at least 65536 bytes a second; nothing was written",
    )


def problem_of(error: type[QuireError]) -> ProblemType:
    """Return the problem type of an error class, which must state one."""
    assert error.problem_type is not None, f"{error.__name__} states a problem"
    return error.problem_type


TOO_LARGE: Final = problem_of(PayloadTooLarge)
UNSUPPORTED_TYPE: Final = problem_of(UnsupportedBody)
HEADERS_TOO_LARGE: Final = ProblemType(
    "headers-too-large", 431, "Headers too large", "the headers exceed 65536 bytes"
)
INTERNAL: Final = ProblemType(
    "internal", 500, "Internal error", "the server failed on this request; its log says why"
)
EXPECTATION_FAILED: Final = ProblemType(
    "expectation-failed",
    417,
    "Expectation can't be met",
    "Expect: 200-ok is not supported; only 100-continue is",
)
NOT_IMPLEMENTED: Final = ProblemType(
    "not-implemented",
    501,
    "Transfer coding not supported",
    "the transfer coding gzip is not supported; send chunked alone, or a Content-Length",
)
VERSION_NOT_SUPPORTED: Final = ProblemType(
    "version-not-supported",
    505,
    "HTTP version not supported",
    "send the request as HTTP/1.1",
)
METHOD_NOT_ALLOWED: Final = ProblemType(
    "method-not-allowed",
    405,
    "Method not allowed",
    "POST is not supported here; use GET, HEAD, OPTIONS",
)
OF_STATUS: Final = {
    400: INVALID_REQUEST,
    401: problem_of(Unauthorized),
    403: problem_of(Forbidden),
    404: NOT_FOUND,
    405: METHOD_NOT_ALLOWED,
    413: TOO_LARGE,
}
_OF_NO_ERROR: Final = (
    *OF_STATUS.values(),
    HEADERS_TOO_LARGE,
    EXPECTATION_FAILED,
    NOT_IMPLEMENTED,
    VERSION_NOT_SUPPORTED,
    INTERNAL,
)
"""Problems of the protocol, which no error class states."""


def problems(*packages: str) -> dict[str, ProblemType]:
    """Return all problem types by slug: those of Quire and of the packages of other domains."""
    ours = ("ledger", "server", *packages)
    found = {problem.slug: problem for problem in _OF_NO_ERROR}
    for cls in _subclasses(QuireError):
        if cls.problem_type is not None and any(
            cls.__module__ == name or cls.__module__.startswith(f"{name}.") for name in ours
        ):
            found[cls.problem_type.slug] = cls.problem_type
    return dict(sorted(found.items()))


def _subclasses(cls: type[QuireError]) -> Iterator[type[QuireError]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def document(kind: ProblemType, detail: str, **members: Any) -> bytes:
    """Return the bytes of a problem document; ``members`` that are None are left out."""
    metrics.PROBLEMS.labels(str(kind.status)).inc()
    return msgspec.json.encode(
        {
            "type": TYPE_BASE + kind.slug,
            "title": kind.title,
            "status": kind.status,
            "detail": detail,
            **{name: value for name, value in members.items() if value is not None},
        }
    )


def problem(
    kind: ProblemType, detail: str, *, headers: dict[str, str] | None = None, **members: Any
) -> Response[bytes]:
    """Return a problem response."""
    headers = dict(headers or {})
    if kind.status in (429, 503) or kind is NotYetSigned.problem_type:
        headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    if kind.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        document(kind, detail, **members),
        status_code=kind.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def on_quire_error(request: Request[Any, Any, Any], error: QuireError) -> Response[bytes]:
    """Answer an error of Quire's own tree."""
    if not isinstance(error, RateLimited):  # which was counted where it was refused
        malformed = isinstance(error, InvalidEvent | MalformedBody)
        event = BODY_MALFORMED if malformed else None
        _note_failure(request, error.problem_type or UNAVAILABLE, event)
    if error.problem_type is not None and error.problem_type.status in LOGGED:
        _note_refusal(request, error.problem_type)
    if isinstance(error, QueueFull):
        refused = UNAVAILABLE if error.everyone else problem_of(QueueFull)
        return problem(refused, str(error), headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, DatabaseUnavailable):
        # The database's message may name hosts, users and tables.
        _database_trouble.failed(log.warning, str(error), early=log.info)
        return problem(
            UNAVAILABLE, "the database can't do this now; nothing was written, so retry shortly"
        )
    kind = error.problem_type
    if kind is None or kind.status == INTERNAL.status:
        org, _ = request.scope["state"].get(ADMITTED) or (None, None)
        _trouble.failed(type(error), log.error, str(error), org=org and org.slug, exc_info=error)
        if isinstance(error, RowNotAuthentic):
            request.app.state.services.forged_rows.found(org and org.id, str(error))
    if kind is not None:
        retry_after = getattr(error, "retry_after", None)
        told = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return problem(
            kind,
            str(error),
            headers=told | getattr(error, "headers", {}),
            index=getattr(error, "index", None),
            field=getattr(error, "field", None),
            reason=getattr(error, "reason", None),
            scope=getattr(error, "scope", None),
        )
    return problem(UNAVAILABLE, "the server can't do this now; the operator's log says why")


def _note_failure(
    request: Request[Any, Any, Any], kind: ProblemType, event: str | None = None
) -> None:
    """Count a problem of a request that was let in; a bad body is a kind of security event."""
    admitted = request.scope["state"].get(ADMITTED)
    if admitted is not None:  # others are counted where they are refused
        event = BODY_TOO_LARGE if kind is TOO_LARGE else event
        group = address_of(request.scope).group
        request.app.state.services.callers.failed(admitted, group, event, kind.title)


def limited(request: Request[Any, Any, Any], error: RateLimited) -> BytesResponse:
    """Answer a request that a rate limit refused, at a tenth of the cost of :func:`problem`."""
    kind = problem_of(RateLimited)
    _note_refusal(request, kind)
    headers = {"Retry-After": str(error.retry_after), **error.headers}
    return BytesResponse(
        kind.status,
        document(kind, str(error), scope=error.scope),
        tuple((name.lower().encode(), value.encode()) for name, value in headers.items()),
        MEDIA_TYPE.encode(),
    )


def _note_refusal(request: Request[Any, Any, Any], kind: ProblemType) -> None:
    org, _ = request.scope["state"].get(ADMITTED) or (None, None)
    named = {} if org is None else {"org": org.slug}
    _refusals.note(log.info, address_of(request.scope), kind.slug, **named)


def _too_large(request: Request[Any, Any, Any]) -> str:
    limit = request.route_handler.resolve_request_max_body_size()
    return f"the body is too large; the limit is {limit} bytes, so send it in several requests"


def on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer an error of Litestar: an unknown path or method, an invalid parameter."""
    kind = OF_STATUS.get(error.status_code)
    if kind is None:
        kind = INTERNAL if error.status_code >= 500 else INVALID_REQUEST
    _note_failure(request, kind)
    detail = str(error.detail or kind.title)
    if kind is NOT_FOUND:
        detail = NO_PATH
    if kind is TOO_LARGE:
        detail = _too_large(request)
    if kind is METHOD_NOT_ALLOWED:
        methods = allowed((error.headers or {}).get("allow", ""))
        detail = f"{request.method} is not supported here; use {methods}"
    if isinstance(error, ValidationException) and isinstance(error.extra, list) and error.extra:
        first = error.extra[0]
        if isinstance(first, dict):
            detail = _misfit(request, first.get("key"), str(first.get("message")))
    headers = {
        name: allowed(value)
        for name, value in (error.headers or {}).items()
        if name.lower() == "allow"
    }
    return problem(kind, detail, headers=headers)


def _misfit(request: Request[Any, Any, Any], key: str | None, message: str) -> str:
    """Describe what is wrong with a parameter, without the names of Python's types."""
    parameter = request.route_handler.parsed_fn_signature.parameters.get(key or "")
    kind = None if parameter is None else parameter.annotation
    reason = misfit(msgspec.ValidationError(message), kind, what=_sent_name(request, key))
    return reason.removesuffix(", not text")  # as a query is all text


def _sent_name(request: Request[Any, Any, Any], key: str | None) -> str:
    """Return the name under which the caller sent a parameter, which Python may not allow."""
    if key is None:
        return "the request"
    parameter = request.route_handler.parsed_fn_signature.parameters.get(key)
    sent_as = getattr(parameter and parameter.kwarg_definition, "name", None)
    return str(sent_as or key)


def on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer a bug of the server: its details go only to the log."""
    _note_failure(request, INTERNAL)
    # The key is the class, because the words may differ each time.
    _bugs.failed(type(error), log.error, "a fault of the server", exc_info=error)
    return problem(INTERNAL, "the server failed on this request; its log says why")


HANDLERS: Final[dict[Any, Any]] = {
    QuireError: on_quire_error,
    HTTPException: on_http_error,
    Exception: on_unexpected,
}
