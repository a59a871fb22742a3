"""JSON bodies of the administrative routes: small, in time, and of one known shape.

They are read after the caller is known and let in, which Litestar's own body
parameters are not; and what JSON can't hold is a problem of the caller, never ours.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from server.http.caller import HttpRequest, body_of
from server.http.problems import BadRequest

MAX_BYTES: Final = 65_536
"""More than any of these bodies needs; set as the limit of their routes."""

T = TypeVar("T")


async def json_body(request: HttpRequest, kind: type[T]) -> T:
    """The body as this type. Raises BadRequest, which names the field at fault."""
    body = await body_of(request)
    if not body.strip():
        raise BadRequest("the body is empty; send a JSON object")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body does not fit: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
