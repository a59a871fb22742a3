"""Encodes events, and groups them into requests within the limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from ledger.client.errors import EventEncodingError
from ledger.malformed import json_fault, misfit

Event: TypeAlias = Mapping[str, Any] | bytes
"""A JSON object: a mapping, which is encoded, or its bytes, which are sent as they are."""

MAX_REQUEST_EVENTS = 10_000
MAX_REQUEST_BYTES = 16 * 1024 * 1024
"""The server's default limits for one request."""

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def encode(event: Event, index: int | None = None) -> bytes:
    """Return ``event`` as the bytes of one JSON object.

    Raises EventEncodingError, with ``index``, for anything else. Bytes are checked but not
    changed: an incomplete event would break the array that it is sent in, or add events to it.
    """
    try:
        if isinstance(event, bytes):
            _object.decode(event)
            return event
        return msgspec.json.encode(event if isinstance(event, dict) else dict(event))
    except msgspec.ValidationError as error:
        raise EventEncodingError(misfit(error), index) from error
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise EventEncodingError(_reason(event, error), index) from error


def _reason(event: Event, error: Exception) -> str:
    """Return why an event can't be encoded."""
    if isinstance(event, bytes):
        return json_fault(event, error)
    if isinstance(error, UnicodeError):
        return "a text in it holds half of a surrogate pair, which is not a character"
    return str(error)


def array(events: Iterable[bytes]) -> bytes:
    """Return the JSON array of encoded events, whose bytes are not changed."""
    return b"[" + b",".join(events) + b"]"


def requests(
    events: Iterable[Event],
    max_events: int = MAX_REQUEST_EVENTS,
    max_bytes: int = MAX_REQUEST_BYTES,
) -> Iterator[list[bytes]]:
    """Yield the encoded events of one request after another, in order.

    Each request has at least one event and stays within the limits. An event over the limits
    is sent alone, for the server to accept or refuse. The same events always give the same
    requests.
    """
    request: list[bytes] = []
    size = 2  # the array's brackets; each event adds itself and a comma
    for index, event in enumerate(events):
        encoded = encode(event, index)
        if request and (len(request) >= max_events or size + len(encoded) + 1 > max_bytes):
            yield request
            request, size = [], 2
        request.append(encoded)
        size += len(encoded) + 1
    if request:
        yield request
