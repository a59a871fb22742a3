"""Receives the body of a request for the application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

READER: Final = "reader"
"""The key in a request's state of the task that reads its body."""
LATE: Final = "late"
"""The key in a request's state that is there once its body arrives too slowly."""


RECEIVED: Final = "received"
"""The key in a request's state of the bytes of its body so far, if it comes in parts."""


COPIED_BYTES: Final = 1 << 20
"""Longer bodies that come in parts are returned as they were received: as a bytearray."""


class BodyLate(Exception):
    """The body arrives too slowly."""


class BodyTooLarge(Exception):
    """The body has more bytes than the limit."""


class ClientGone(Exception):
    """The connection ended before the whole body arrived."""


async def body_of_request(
    state: MutableMapping[str, Any], receive: Callable[[], Awaitable[Any]], limit: float
) -> bytes | bytearray:
    """Return the body of a request. Raises BodyLate, BodyTooLarge or ClientGone.

    The watchdog of the connection cancels the task when the body falls behind the least rate.
    """
    if LATE in state:
        raise BodyLate
    task = state[READER] = asyncio.current_task()
    try:
        return await _whole(state, receive, limit)
    except asyncio.CancelledError:
        if LATE not in state or task is None or task.uncancel():
            raise  # the server ends, too
        raise BodyLate from None
    finally:
        del state[READER]


async def _whole(
    state: MutableMapping[str, Any], receive: Callable[[], Awaitable[Any]], limit: float
) -> bytes | bytearray:
    event = await _part(receive)
    if not event["more_body"] and len(event["body"]) <= limit:
        whole: bytes = event["body"]
        return whole
    # Not a list of parts: a client may send each byte alone.
    body = bytearray(event["body"])
    while event["more_body"] and len(body) <= limit:
        state[RECEIVED] = len(body)
        event = await _part(receive)
        body += event["body"]
    state[RECEIVED] = len(body)
    if len(body) > limit:
        raise BodyTooLarge
    # The copy of many megabytes would hold up other requests; nobody changes the bytes any more.
    return body if len(body) > COPIED_BYTES else bytes(body)


async def _part(receive: Callable[[], Awaitable[Any]]) -> Any:
    event = await receive()
    if event["type"] != "http.request":
        raise ClientGone
    return event
