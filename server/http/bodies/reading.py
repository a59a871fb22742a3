"""Receives request bodies, within the limit of their route and the room of their org."""

from __future__ import annotations

import math
from typing import Final, cast

from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from ledger.core.shares import OrgShares
from ledger.errors import QueueFull
from server.http.caller import HttpRequest, headers_of, require_current, services_of
from server.http.problems import BadRequest, RequestTimeout
from server.http.protocol.watching.receiving import (
    BodyLate,
    BodyTooLarge,
    ClientGone,
    body_of_request,
)
from server.trails.services import Services

SMALL_BYTES: Final = 65_536
"""Bodies up to this size reserve no memory."""
ORG_BYTES: Final = 64 << 20
TOTAL_BYTES: Final = 512 << 20
"""Announced bytes of large bodies that may arrive at once: for one org, for all."""
BODY: Final = "body"
"""The key in a request's state of its body, once it is read."""


class BodyRoom(OrgShares):
    """The bytes of large bodies, from before they are read until they are parsed."""

    def __init__(self) -> None:
        super().__init__(total=TOTAL_BYTES, of_org=ORG_BYTES, full=_full)


def _full(everyone: bool) -> QueueFull:
    whose = "" if everyone else " of this org"
    return QueueFull(
        f"too many large requests{whose} arrive at once; retry shortly", everyone=everyone
    )


def body_room(_: Services) -> BodyRoom:
    """Return the room for bodies in this process; made once, by :meth:`Services.part`."""
    return BodyRoom()


async def body_of(request: HttpRequest) -> bytes:
    """Return the whole body, read once.

    Raises RequestTimeout for one that arrives too slowly, RequestEntityTooLarge, or BadRequest if
    the connection ended. Litestar's own reader does the same at the cost of a tenth of an append.
    """
    state = request.scope["state"]
    if BODY in state:
        read: bytes = state[BODY]
        return read
    limit = request.route_handler.resolve_request_max_body_size() or math.inf
    if announced_bytes(request, 0) > limit:
        raise RequestEntityTooLarge
    try:
        received = await body_of_request(state, request.receive, limit)
    except BodyTooLarge:
        raise RequestEntityTooLarge from None
    except ClientGone:  # no client reads the answer, nothing failed
        raise BadRequest("the connection ended before the whole body arrived") from None
    except BodyLate:
        rate = services_of(request).settings.least_rate
        raise RequestTimeout(
            f"the body arrives too slowly: send at least {rate} bytes a second; nothing was written"
        ) from None
    # A bytearray, where it is long, which nobody changes: it is used as bytes.
    body = state[BODY] = cast("bytes", received)
    await require_current(request)  # a body may have taken half a minute
    return body


def announced_bytes(request: HttpRequest, otherwise: int) -> int:
    """Return the size of the body that the client announced; ``otherwise`` if it did not."""
    length = headers_of(request).get(b"content-length", b"")
    return int(length) if length.isdigit() else otherwise
