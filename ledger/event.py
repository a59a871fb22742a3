"""Events as callers send them: one JSON object, an array, NDJSON or MessagePack.

The payload is the event's exact bytes. Nine names are recognised at the top
level of the object; everything else is payload only. Refused are events that
readers could interpret differently (a repeated name in an object at any depth,
text that is not UTF-8) and events that common readers could not read (nesting
beyond 128 levels).
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any, Final

import msgspec

from ledger.entry import has_control
from ledger.errors import InvalidEvent, PayloadTooLarge
from ledger.malformed import EXPLAINED_BYTES, json_fault, misfit, msgpack_fault
from ledger.misspelt import KnownNames, Misspelling
from ledger.packed import MAX_DEPTH, TOO_DEEP, checked_names
from ledger.times import EXAMPLE, is_time

RESERVED_PREFIX: Final = "quire."
"""Prefix of the event types of the server's own entries, such as a thaw or an erasure."""
LOSS_ACCEPTED: Final = "quire.loss_accepted"
"""The event type of an entry by which an operator accepts that entries before it are lost."""
MAX_FIELD_CHARS: Final = 1_024
"""Limit of each recognised field; eight fields of this length always fit in a leaf."""
_COMMAS_PER_EVENT: Final = 32
"""An array with at most this many commas per allowed event is split without counting first."""
AT_ONCE: Final = 200
"""Events of one piece of a body: parsing them takes about a millisecond."""


class EventFields(msgspec.Struct, gc=False):
    """The recognised fields of an event; unknown fields are skipped."""

    event_type: str | None = None
    """The kind of event, as the caller names it; types that begin with "quire." are refused."""
    actor: str | None = None
    """The person or program that acted."""
    action: str | None = None
    """The act, in one word or a few."""
    outcome: str | None = None
    """How the act ended."""
    subject: str | None = None
    """The person whom the event concerns. In an org that seals, the payload is encrypted with this
    person's key."""
    timestamp: str | None = None
    """When the event happened, by the caller's clock: an RFC 3339 time, or a date."""
    data_classification: str | None = None
    """How confidential the data is, in the caller's terms."""
    legal_basis: str | None = None
    """Why the data may be processed, in the caller's terms."""
    unique_key: str | None = None
    """A name of this event alone: an event of the same key is written once. It is not shown
    again."""


class Event(msgspec.Struct, gc=False):
    """One event: its recognised fields, its bytes as received, and names that may be misspelt."""

    fields: EventFields
    payload: bytes
    unfamiliar: tuple[str, ...] = ()


_element_count: ContextVar[int] = ContextVar("_element_count")
_element_limit: ContextVar[int] = ContextVar("_element_limit")


class _Element(msgspec.Struct, gc=False):
    """An array element that must be an object: its members are skipped, the element is counted."""

    def __post_init__(self) -> None:
        _element_count.set(_element_count.get() + 1)
        if _element_count.get() > _element_limit.get():
            raise _too_many(_element_limit.get())


FIELD_NAMES: Final = EventFields.__struct_fields__
_values = msgspec.structs.astuple
_known_names: Final = KnownNames(FIELD_NAMES)

_Read = Callable[[bytes], tuple[EventFields, Iterable[str]]]
"""Reads an event: its recognised fields, and the names of all its fields."""

EventPieces = Iterator[list["Event"]]
"""Events of a body, some at a time; each piece is parsed when it is asked for."""

_fields_from_json = msgspec.json.Decoder(EventFields).decode
_fields_from_msgpack = msgspec.msgpack.Decoder(EventFields).decode
_any_from_json = msgspec.json.Decoder().decode
_array_from_json = msgspec.json.Decoder(list[msgspec.Raw]).decode
_elements_from_json = msgspec.json.Decoder(list[_Element]).decode
_array_from_msgpack = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_encode_json = msgspec.json.Encoder().encode

_flat_from_msgpack = msgspec.msgpack.Decoder(dict[str, str | int | float | bool | None]).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
_LINE = re.compile(rb"[ \t\r\n]*+([^\n]++)")
_NOT_BRACKETS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^][{}"]++', re.DOTALL)


class NeedsTime(Exception):
    """The body needs a check that takes longer than the caller has: parse it in another process."""


_bytes_left: ContextVar[int | None] = ContextVar("_bytes_left", default=None)


@contextmanager
def in_haste(max_bytes: int) -> Iterator[None]:
    """Let parsers raise NeedsTime in this block, before they check more bytes at Python's speed.

    Most bodies are checked at the speed of C. What is left are unusual spellings, many brackets,
    nested MessagePack, and the explanation of what is wrong with a body.
    """
    token = _bytes_left.set(max_bytes)
    try:
        yield
    finally:
        _bytes_left.reset(token)


def _spend(count: int) -> None:
    """Note that so many bytes are checked at Python's speed. Raises NeedsTime."""
    left = _bytes_left.get()
    if left is None:
        return
    if count > left:
        raise NeedsTime
    _bytes_left.set(left - count)


def parse_json(body: bytes, *, max_events: int, max_payload: int) -> tuple[list[Event], bool]:
    """Return the events of a JSON body, and whether it was one object rather than an array.

    Raises InvalidEvent (with the index of the event at fault) or PayloadTooLarge.
    """
    pieces, single = json_pieces(body, max_events=max_events, max_payload=max_payload)
    return _joined(pieces), single


def json_pieces(body: bytes, *, max_events: int, max_payload: int) -> tuple[EventPieces, bool]:
    """Do the same as :func:`parse_json` in pieces of events; each is parsed when it is asked for."""
    _require_utf8(body)
    start = body.lstrip()[:1]
    if start == b"{":
        try:
            return iter(([_event(body, None, max_payload, _read_json)],)), True
        except PayloadTooLarge:
            raise
        except InvalidEvent:
            if _is_ndjson(body):
                raise InvalidEvent(
                    "the body has one JSON object a line, which is NDJSON; send it as "
                    "application/x-ndjson"
                ) from None
            raise
    if not start:
        raise InvalidEvent("the body is empty; send a JSON object or an array of objects")
    if start != b"[":
        raise InvalidEvent(
            f"the body must be a JSON object or an array of objects{_encoding_hint(body)}"
        )
    _bound_array(body, max_events)
    try:
        parts = _array_from_json(body)
    except _UNREADABLE as error:
        raise InvalidEvent(f"the body is not valid JSON: {_decoding_fault(error, body)}") from None
    return _pieces(map(bytes, parts), max_events, max_payload, _read_json), False


def parse_ndjson(body: bytes, *, max_events: int, max_payload: int) -> list[Event]:
    """Return the events of an NDJSON body: one JSON object a line; blank lines are skipped."""
    return _joined(ndjson_pieces(body, max_events=max_events, max_payload=max_payload))


def ndjson_pieces(body: bytes, *, max_events: int, max_payload: int) -> EventPieces:
    """Yield the same events as :func:`parse_ndjson`, in pieces."""
    _require_utf8(body)
    # Without white space at the end each match ends in a line, so none is tried in vain.
    lines = (line[1].rstrip(b" \t\r") for line in _LINE.finditer(body.rstrip(b" \t\r\n")))
    try:
        yield from _pieces(lines, max_events, max_payload, _read_json)
    except PayloadTooLarge:
        raise
    except InvalidEvent as error:
        if _is_one_json(body):
            raise InvalidEvent(
                "the body is one JSON value on several lines, and NDJSON has one object a line; "
                "send it as application/json",
                index=error.index,
            ) from None
        raise


def parse_msgpack(body: bytes, *, max_events: int, max_payload: int) -> list[Event]:
    """Return the events of a MessagePack body: one array of maps with string keys."""
    return _joined(msgpack_pieces(body, max_events=max_events, max_payload=max_payload))


def msgpack_pieces(body: bytes, *, max_events: int, max_payload: int) -> EventPieces:
    """Return the same events as :func:`parse_msgpack`, in pieces."""
    if body[:1] in {b"\xdc", b"\xdd"} and (count := _size(body)) > max_events:
        if count > len(body):  # each event takes at least one byte
            raise InvalidEvent(
                f"the body is not a complete MessagePack array: it declares {count} elements "
                "and ends early; send the whole array"
            )
        raise _too_many(max_events)
    try:
        parts = _array_from_msgpack(body)
    except _UNREADABLE as error:
        hint = "; it looks like JSON, so send it as application/json" if _is_text(body) else ""
        raise InvalidEvent(
            f"the body is not a MessagePack array: {_decoding_fault(error)}{hint}"
        ) from None
    return _pieces(map(bytes, parts), max_events, max_payload, _read_msgpack)


def misspelt_fields(events: Sequence[Event]) -> list[tuple[int, Misspelling]]:
    """Return the fields that look like a recognised field misspelt, with the index of the event."""
    names = [(index, event.unfamiliar) for index, event in enumerate(events) if event.unfamiliar]
    if not names:
        return []
    return _known_names.misspelt((index, name) for index, some in names for name in some)


def is_json_payload(payload: bytes) -> bool:
    """Return whether payload bytes are JSON (an object) rather than a MessagePack map."""
    return payload.lstrip()[:1] == b"{"


def _joined(pieces: EventPieces) -> list[Event]:
    return [event for piece in pieces for event in piece]


def _pieces(parts: Iterable[bytes], max_events: int, max_payload: int, read: _Read) -> EventPieces:
    bounded = list(islice(parts, max_events + 1))
    if not bounded:
        raise InvalidEvent("the request holds no event; send at least one")
    if len(bounded) > max_events:
        raise _too_many(max_events)
    numbered = enumerate(bounded)
    while some := [_event(part, at, max_payload, read) for at, part in islice(numbered, AT_ONCE)]:
        yield some


def _too_many(max_events: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"too many events in one request; at most {max_events} are allowed, send several requests"
    )


def _bound_array(body: bytes, max_events: int) -> None:
    """Refuse an array of too many elements before memory is allocated for each element.

    A body of 16 MiB can hold eight million; few bodies need the check.
    """
    if body.count(b",") <= _COMMAS_PER_EVENT * max_events:
        return
    _element_count.set(0)
    _element_limit.set(max_events)
    try:
        _elements_from_json(body)
    except msgspec.ValidationError as error:
        reason = misfit(error, what="an event")
        index = _element_count.get()
        raise InvalidEvent(f"the event is not valid: {reason}", index=index) from None
    except _UNREADABLE as error:
        raise InvalidEvent(f"the body is not valid JSON: {_decoding_fault(error, body)}") from None


def _event(payload: bytes, index: int | None, max_payload: int, read: _Read) -> Event:
    if len(payload) > max_payload:
        raise PayloadTooLarge(
            f"the event has {len(payload)} bytes; at most {max_payload} are allowed", index=index
        )
    try:
        fields, names = read(payload)
    except InvalidEvent as error:
        error.index = index
        raise
    except msgspec.ValidationError as error:
        field, reason = _field_at_fault(error), misfit(error, what="an event")
        raise InvalidEvent(f"the event is not valid: {reason}", field=field, index=index) from None
    except _UNREADABLE as error:
        reason = _decoding_fault(error, payload if read is _read_json else None)
        raise InvalidEvent(f"the event can't be read: {reason}", index=index) from None
    _check_fields(fields, index)
    if _known_names.unremarkable.issuperset(names):
        return Event(fields, payload)
    return Event(fields, payload, _known_names.unfamiliar(names))


def _read_json(payload: bytes) -> tuple[EventFields, Iterable[str]]:
    fields = _fields_from_json(payload)
    _bound_depth(payload)
    return fields, refuse_repeated_names(payload)


def refuse_repeated_names(document: bytes) -> Any:
    """Return the decoded JSON, its numbers perhaps as text.

    Raises InvalidEvent where an object repeats a name: readers disagree on it. Decoding keeps one
    of two equal names, so JSON that encodes back to itself repeats none, which is checked at the
    speed of C. Unusual spellings of numbers and text need the slow check.
    """
    try:
        decoded = _any_from_json(document)
        again = _encode_json(decoded)
    except msgspec.MsgspecError:
        pass
    else:
        if again == document or again == msgspec.json.format(document, indent=-1):
            return decoded
    _spend(len(document))
    return json.loads(document, object_pairs_hook=_refuse_repeats, parse_int=str, parse_float=str)


def _bound_depth(payload: bytes) -> None:
    if len(payload) <= 2 * MAX_DEPTH or payload.count(b"{") + payload.count(b"[") <= MAX_DEPTH:
        return
    _spend(len(payload))
    depth = 0
    for bracket in _NOT_BRACKETS.sub(b"", payload):
        depth += 1 if bracket in b"{[" else -1
        if depth > MAX_DEPTH:
            raise InvalidEvent(TOO_DEEP)


def _refuse_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = dict(pairs)
    if len(names) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        repeated = next(name for name, count in counts.items() if count > 1)
        shown = "".join(char if char.isprintable() else "\ufffd" for char in repeated[:64])
        raise InvalidEvent(
            f'the name "{shown}" appears twice in one object; give each name once',
            field=repeated if repeated in FIELD_NAMES else None,
        )
    return names


def _read_msgpack(payload: bytes) -> tuple[EventFields, Iterable[str]]:
    fields = _fields_from_msgpack(payload)
    try:
        names: dict[str, Any] = _flat_from_msgpack(payload)
    except msgspec.ValidationError:
        _spend(len(payload))
        return fields, checked_names(payload)
    if len(names) != _size(payload):  # decoding keeps one of two equal names
        raise InvalidEvent("a name appears twice in an object of the event; give each name once")
    return fields, names


def _size(packed: bytes) -> int:
    """Return the number of elements that a MessagePack array or map (any form) declares."""
    first = packed[0]
    if first in {0xDC, 0xDE}:
        return int.from_bytes(packed[1:3], "big")
    if first in {0xDD, 0xDF}:
        return int.from_bytes(packed[1:5], "big")
    return first & 0x0F


def _check_fields(fields: EventFields, index: int | None) -> None:
    for place, value in enumerate(_values(fields)):
        if value is None:
            continue
        if len(value) > MAX_FIELD_CHARS:
            raise _field_fault(
                place, f"has {len(value)} characters; at most {MAX_FIELD_CHARS} are allowed", index
            )
        if not value.isprintable() and has_control(value):
            raise _field_fault(place, "holds a control character; remove it", index)
    if fields.event_type is not None and fields.event_type.startswith(RESERVED_PREFIX):
        raise InvalidEvent(
            f'event types that begin with "{RESERVED_PREFIX}" are reserved for the server; '
            "use another event_type",
            field="event_type",
            index=index,
        )
    if fields.timestamp is not None and not is_time(fields.timestamp):
        raise InvalidEvent(
            f"timestamp must be an RFC 3339 time such as {EXAMPLE}",
            field="timestamp",
            index=index,
        )


def _field_fault(place: int, reason: str, index: int | None) -> InvalidEvent:
    name = FIELD_NAMES[place]
    return InvalidEvent(f"{name} {reason}", field=name, index=index)


def _require_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        _spend(len(body))
        raise InvalidEvent(f"the body can't be read: {json_fault(body, error)}") from None


def _decoding_fault(error: Exception, json_bytes: bytes | None = None) -> str:
    if isinstance(error, RecursionError):
        return TOO_DEEP
    _spend(len(json_bytes or b""))
    return msgpack_fault(error) if json_bytes is None else json_fault(json_bytes, error)


def _is_one_json(body: bytes) -> bool:
    """Return whether a refused NDJSON body of modest size is pretty-printed JSON."""
    if len(body) > EXPLAINED_BYTES or body.count(b"\n") < 1 or body.lstrip()[:1] not in b"{[":
        return False
    _spend(len(body))
    try:
        _any_from_json(body)
    except (*_UNREADABLE, ValueError):
        return False
    return b"\n" in body.strip()


def _is_ndjson(body: bytes) -> bool:
    """Return whether a refused JSON body of modest size is several objects, one a line."""
    _spend(len(body))
    lines = body.split(b"\n") if len(body) <= EXPLAINED_BYTES else []
    objects = [line for line in lines if line.strip()]
    try:
        return len(objects) > 1 and all(isinstance(_any_from_json(one), dict) for one in objects)
    except (*_UNREADABLE, ValueError):
        return False


def _is_text(body: bytes) -> bool:
    """Return whether a refused MessagePack body begins like JSON."""
    return body.lstrip()[:1] in {b"{", b"["}


def _encoding_hint(body: bytes) -> str:
    """Return a hint for a body whose encoding hides its JSON: a byte order mark, or UTF-16."""
    if body[:3] == codecs.BOM_UTF8 or b"\x00" in body[:4]:
        return f"; {json_fault(body, ValueError())}"
    return ""


def _field_at_fault(error: msgspec.ValidationError) -> str | None:
    _, _, path = str(error).rpartition("`$.")
    name = path.rstrip("`")
    return name if name in FIELD_NAMES else None
