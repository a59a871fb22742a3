"""Decodes the JSON bodies of administrative routes, each of one known type.

They are read after the caller is admitted, unlike Litestar's own body parameters; and a body that
is not valid JSON is answered with 400, never with 500.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, TypeVar

import msgspec

from ledger.errors import InvalidEvent
from ledger.event import refuse_repeated_names
from ledger.malformed import json_fault, misfit
from server.http.bodies.reading import body_of
from server.http.caller import HttpRequest, contract_of
from server.http.problems import MalformedBody

MAX_BYTES: Final = 65_536
"""More than any of these bodies needs; the limit of their routes."""

# PostgreSQL's text can't hold it. A backslash before it may be escaped itself.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

T = TypeVar("T")


async def json_body(request: HttpRequest) -> Any:
    """Return the body as the type in the route's contract. Raises MalformedBody, naming the field."""
    kind = contract_of(request).body
    assert kind is not None, "a route that reads a body states its type"
    body = await body_of(request)
    if not body.strip():
        raise MalformedBody("the body is empty; send a JSON object")
    return decoded(body, kind)


def decoded(body: bytes, kind: type[T]) -> T:
    """Return a JSON body as this type. Raises MalformedBody, naming the field."""
    try:
        value = msgspec.json.decode(body, type=kind)
        refuse_repeated_names(body)
    except msgspec.ValidationError as error:
        reason = misfit(error, kind, what="the body")
        raise MalformedBody(f"the body is not valid: {reason}") from None
    except InvalidEvent as error:
        raise MalformedBody(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(f"the body is not JSON: {json_fault(body, error)}") from None
    # The search for the bytes alone is a hundred times faster.
    if (
        b"\\u0000" in body
        and _NUL.search(body)
        and (name := _holder_of_nul(msgspec.to_builtins(value))) is not None
    ):
        raise MalformedBody(
            f"{name} has a control character, U+0000, which can't be stored; leave it out"
        )
    return value


def _holder_of_nul(value: object, name: str = "") -> str | None:
    """Return the name of the first text with U+0000, as in ``filter.actor`` or ``names[2]``."""
    parts: Iterable[tuple[str, object]] = ()
    if isinstance(value, dict):
        parts = ((f"{name}.{key}".lstrip("."), part) for key, part in value.items())
    elif isinstance(value, list):
        parts = ((f"{name}[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, str) and "\0" in value:
        return name
    return next((found for at, part in parts if (found := _holder_of_nul(part, at))), None)
