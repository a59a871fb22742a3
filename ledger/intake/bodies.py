"""The forms of bodies, and the messages about them between a server and its parsers."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

import msgspec

from ledger.errors import InvalidEvent, PayloadTooLarge
from ledger.event import (
    Event,
    EventFields,
    EventPieces,
    json_pieces,
    msgpack_pieces,
    ndjson_pieces,
)

ANSWER_EVENTS: Final = 500
"""Events in one message of a parser: reading it takes about a millisecond."""
ORDER: Final = Struct(">BII")
"""The start of a message to a parser: form, most events, most bytes of a payload; then the body."""
MAX_ANSWER_BYTES: Final = 64 << 20
_ERRORS: Final = {one.__name__: one for one in (InvalidEvent, PayloadTooLarge)}


class BodyForm(IntEnum):
    """What the bytes of a body are."""

    JSON = 0
    NDJSON = 1
    MSGPACK = 2
    RECORD_LISTS = 3
    """A request that lists very many record ids."""


class IntakeLimits(msgspec.Struct, frozen=True):
    """The bounds of one request: events, and bytes of one event's payload."""

    max_events: int
    max_payload: int


class PlacedEvent(msgspec.Struct, array_like=True, gc=False):
    """An event whose payload are the bytes from ``start`` to ``end`` of the body."""

    start: int
    end: int
    fields: tuple[str | None, ...]
    unfamiliar: tuple[str, ...]


class Refusal(msgspec.Struct, array_like=True):
    """The error that the body is refused with."""

    error: str
    message: str
    field: str | None
    index: int | None


class ListAnswer(msgspec.Struct, array_like=True):
    """A part of the lists of a request, then the rest of the request, or why it is refused.

    ``places`` are in the order of :class:`~ledger.entry.RecordId`; None for a list that names others.
    """

    rest: bytes | None = None
    name: str = ""
    texts: list[str] = []
    places: list[tuple[int, int, int]] | None = []
    refusal: Refusal | None = None


class ParserAnswer(msgspec.Struct, array_like=True):
    """Some events of a body, or why it is refused; ``more`` follow in further messages."""

    events: list[PlacedEvent]
    single: bool = False
    more: bool = False
    refusal: Refusal | None = None


def parse_body(form: BodyForm, body: bytes, limits: IntakeLimits) -> tuple[list[Event], bool]:
    """Return the events of a body, and whether it was a single object. Raises InvalidEvent."""
    pieces, single = body_pieces(form, body, limits)
    return [event for piece in pieces for event in piece], single


def body_pieces(form: BodyForm, body: bytes, limits: IntakeLimits) -> tuple[EventPieces, bool]:
    """Do the same in pieces; each raises InvalidEvent when it is asked for, and some at once."""
    events, payload = limits.max_events, limits.max_payload
    if form is BodyForm.JSON:
        return json_pieces(body, max_events=events, max_payload=payload)
    if form is BodyForm.NDJSON:
        return ndjson_pieces(body, max_events=events, max_payload=payload), False
    return msgpack_pieces(body, max_events=events, max_payload=payload), False


def refusal_of(error: InvalidEvent) -> Refusal:
    """Return the message about a body that is refused."""
    return Refusal(type(error).__name__, str(error), error.field, error.index)


def error_of(refusal: Refusal) -> InvalidEvent:
    """Return the error of a message, to raise it for the caller."""
    return _ERRORS[refusal.error](refusal.message, field=refusal.field, index=refusal.index)


def placed(events: list[Event], body: bytes) -> list[PlacedEvent]:
    """Return the events by their places in the body, in which they stand one after the other."""
    found, at = [], 0
    for event in events:
        start = body.index(event.payload, at)
        at = start + len(event.payload)
        fields = msgspec.structs.astuple(event.fields)
        found.append(PlacedEvent(start, at, fields, event.unfamiliar))
    return found


def events_of(found: list[PlacedEvent], body: bytes | bytearray) -> list[Event]:
    """Return the events at these places of the body, each copied once."""
    view = body if isinstance(body, bytes) else memoryview(body)
    return [
        Event(EventFields(*one.fields), bytes(view[one.start : one.end]), one.unfamiliar)
        for one in found
    ]
