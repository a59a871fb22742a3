"""Reads JSON bodies of the administrative routes: small, in time, and of one known shape.

They are read after the caller is admitted, unlike Litestar's own body parameters; and a body that
is not valid JSON is answered with 400, never with 500.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar

import msgspec

from ledger.errors import InvalidEvent
from ledger.event import refuse_repeated_names
from ledger.malformed import json_fault, misfit
from server.http.caller import HttpRequest, body_of, promise_of
from server.http.problems import BadRequest

MAX_BYTES: Final = 65_536
"""More than any of these bodies needs; the limit of their routes."""

T = TypeVar("T")


async def json_body(request: HttpRequest) -> Any:
    """Return the body as the type in the route's contract. Raises BadRequest, naming the field."""
    kind = promise_of(request).body
    assert kind is not None, "a route that reads a body states its type"
    body = await body_of(request)
    if not body.strip():
        raise BadRequest("the body is empty; send a JSON object")
    if len(body) > MAX_BYTES:  # of record ids; decoding must not delay other requests
        return await asyncio.to_thread(_decode, body, kind)
    return _decode(body, kind)


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        decoded = msgspec.json.decode(body, type=kind)
        refuse_repeated_names(body)
    except msgspec.ValidationError as error:
        reason = misfit(error, kind, what="the body")
        raise BadRequest(f"the body is not valid: {reason}") from None
    except InvalidEvent as error:
        raise BadRequest(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {json_fault(body, error)}") from None
    return decoded
