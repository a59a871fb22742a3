"""Events on their way out: encoding, and gathering into requests within the limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from ledger.client.errors import EventEncodingError

Event: TypeAlias = Mapping[str, Any] | bytes
"""A JSON object: a mapping, encoded here, or its finished bytes, sent as they are."""

MAX_REQUEST_EVENTS = 10_000
MAX_REQUEST_BYTES = 16 * 1024 * 1024
"""The server's limits for one request, as they are unless its operator changed them."""

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def encode(event: Event, index: int | None = None) -> bytes:
    """Return ``event`` as the bytes of one JSON object.

    Raises EventEncodingError, naming ``index``, for what is not one. Bytes are
    looked at but not changed: an event that is not whole would break, or
    smuggle more events into, the array it is sent in.
    """
    try:
        if isinstance(event, bytes):
            _object.decode(event)
            return event
        return msgspec.json.encode(event if isinstance(event, dict) else dict(event))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise EventEncodingError(str(error), index) from error


def array(events: Iterable[bytes]) -> bytes:
    """Return the JSON array of encoded events, each byte for byte as it is."""
    return b"[" + b",".join(events) + b"]"


def requests(
    events: Iterable[Event],
    max_events: int = MAX_REQUEST_EVENTS,
    max_bytes: int = MAX_REQUEST_BYTES,
) -> Iterator[list[bytes]]:
    """Yield the encoded events of one request after the other, in order.

    Each holds at least one event and stays within the limits unless a single
    event does not: that one goes alone, for the server to judge. The same
    events always give the same requests.
    """
    gathered: list[bytes] = []
    size = 2  # the array's brackets; each event brings itself and a comma
    for index, event in enumerate(events):
        encoded = encode(event, index)
        if gathered and (len(gathered) >= max_events or size + len(encoded) + 1 > max_bytes):
            yield gathered
            gathered, size = [], 2
        gathered.append(encoded)
        size += len(encoded) + 1
    if gathered:
        yield gathered
