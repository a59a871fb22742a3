"""Events as callers send them: one JSON object, an array, NDJSON or MessagePack.

The payload is the event's exact bytes. Nine names are recognised at the top
level of the object; everything else is payload only. What could be read in two
ways (a name that stands twice in one object at any depth, text that is not
UTF-8) is refused, and so is what common readers could not read back (nesting
beyond 128 levels).
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from itertools import islice
from typing import Any, Final

import msgspec

from ledger.entry import has_control
from ledger.errors import InvalidEvent, PayloadTooLarge
from ledger.malformed import EXPLAINED_BYTES, json_fault, misfit, msgpack_fault
from ledger.misspelt import KnownNames, Misspelling
from ledger.times import EXAMPLE, is_time

RESERVED_PREFIX: Final = "quire."
"""Event types of the server's own entries, such as a thaw or an erasure."""
MAX_FIELD_CHARS: Final = 1_024
"""Bound of each recognised field; eight of them always fit in a leaf."""
MAX_DEPTH: Final = 128
"""Levels of objects and arrays, the event itself being the first."""
_TOO_DEEP: Final = f"it nests too deeply; at most {MAX_DEPTH} levels are taken"
_COMMAS_PER_EVENT: Final = 32
"""Up to so many, an array of the most events allowed is split without counting first."""


class EventFields(msgspec.Struct, gc=False):
    """The recognised fields of an event; unknown ones are skipped."""

    event_type: str | None = None
    actor: str | None = None
    action: str | None = None
    outcome: str | None = None
    subject: str | None = None
    timestamp: str | None = None
    data_classification: str | None = None
    legal_basis: str | None = None
    unique_key: str | None = None


class Event(msgspec.Struct, gc=False):
    """One event: its recognised fields, its bytes as sent, and names that look misspelt."""

    fields: EventFields
    payload: bytes
    misspelt: tuple[Misspelling, ...] = ()


_seen: ContextVar[int] = ContextVar("_seen")
_most: ContextVar[int] = ContextVar("_most")


class _Element(msgspec.Struct, gc=False):
    """An element of an array that must be an object: skipped over and counted."""

    def __post_init__(self) -> None:
        _seen.set(_seen.get() + 1)
        if _seen.get() > _most.get():
            raise _too_many(_most.get())


FIELD_NAMES: Final = EventFields.__struct_fields__
_values = msgspec.structs.astuple
_known_names: Final = KnownNames(FIELD_NAMES)

_Read = Callable[[bytes], tuple[EventFields, Iterable[str]]]
"""Reads an event: its recognised fields, and the names of all its fields."""

_fields_from_json = msgspec.json.Decoder(EventFields).decode
_fields_from_msgpack = msgspec.msgpack.Decoder(EventFields).decode
_any_from_json = msgspec.json.Decoder().decode
_names_from_msgpack = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode
_array_from_json = msgspec.json.Decoder(list[msgspec.Raw]).decode
_elements_from_json = msgspec.json.Decoder(list[_Element]).decode
_array_from_msgpack = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_encode_json = msgspec.json.Encoder().encode

_flat_from_msgpack = msgspec.msgpack.Decoder(dict[str, str | int | float | bool | None]).decode
_text_from_msgpack = msgspec.msgpack.Decoder(str).decode

_TIMESTAMP: Final = 0xFF
_SECOND_NS: Final = 1_000_000_000
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
_NOT_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[^][{}"]+', re.DOTALL)


def parse_json(body: bytes, *, max_events: int, max_payload: int) -> tuple[list[Event], bool]:
    """Events of a JSON body, and whether it was one object rather than an array.

    Raises InvalidEvent (with the index of the event at fault) or PayloadTooLarge.
    """
    _require_utf8(body)
    start = body.lstrip()[:1]
    if start == b"{":
        return [_event(body, None, max_payload, _read_json)], True
    if not start:
        raise InvalidEvent("the body is empty; send a JSON object or an array of objects")
    if start != b"[":
        raise InvalidEvent(f"the body must be a JSON object or an array of objects{_odd(body)}")
    _bound_array(body, max_events)
    try:
        parts = _array_from_json(body)
    except _UNREADABLE as error:
        raise InvalidEvent(f"the body is not valid JSON: {_say(error, body)}") from None
    return _events(map(bytes, parts), max_events, max_payload, _read_json), False


def parse_ndjson(body: bytes, *, max_events: int, max_payload: int) -> list[Event]:
    """Events of an NDJSON body: one JSON object a line; blank lines are skipped."""
    _require_utf8(body)
    lines = (match[0].strip(b" \t\r") for match in re.finditer(rb"[^\n]+", body))
    try:
        return _events(filter(None, lines), max_events, max_payload, _read_json)
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
    """Events of a MessagePack body: one array of maps with string keys."""
    if body[:1] in {b"\xdc", b"\xdd"} and (count := _size(body)) > max_events:
        if count > len(body):  # each event takes a byte at least
            raise InvalidEvent(
                f"the body is not a MessagePack array: it declares {count} elements and ends early; send the whole of it"
            )
        raise _too_many(max_events)
    try:
        parts = _array_from_msgpack(body)
    except _UNREADABLE as error:
        raise InvalidEvent(f"the body is not a MessagePack array: {_say(error)}") from None
    return _events(map(bytes, parts), max_events, max_payload, _read_msgpack)


def is_json_payload(payload: bytes) -> bool:
    """Whether payload bytes are JSON (an object) rather than a MessagePack map."""
    return payload.lstrip()[:1] == b"{"


def _events(parts: Iterable[bytes], max_events: int, max_payload: int, read: _Read) -> list[Event]:
    bounded = list(islice(parts, max_events + 1))
    if not bounded:
        raise InvalidEvent("the request holds no event; send at least one")
    if len(bounded) > max_events:
        raise _too_many(max_events)
    return [_event(part, index, max_payload, read) for index, part in enumerate(bounded)]


def _too_many(max_events: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"too many events in one request; at most {max_events} are taken, send several requests"
    )


def _bound_array(body: bytes, max_events: int) -> None:
    """Refuse an array of too many elements before memory is taken for each of them.

    A body of 16 MiB can hold eight million; few bodies need the look.
    """
    if body.count(b",") <= _COMMAS_PER_EVENT * max_events:
        return
    _seen.set(0)
    _most.set(max_events)
    try:
        _elements_from_json(body)
    except msgspec.ValidationError as error:
        said = misfit(error, what="an event")
        raise InvalidEvent(f"the event does not fit: {said}", index=_seen.get()) from None
    except _UNREADABLE as error:
        raise InvalidEvent(f"the body is not valid JSON: {_say(error, body)}") from None


def _event(payload: bytes, index: int | None, max_payload: int, read: _Read) -> Event:
    if len(payload) > max_payload:
        raise PayloadTooLarge(
            f"the event has {len(payload)} bytes; at most {max_payload} are taken", index=index
        )
    try:
        fields, names = read(payload)
    except InvalidEvent as error:
        error.index = index
        raise
    except msgspec.ValidationError as error:
        field, said = _field_at_fault(error), misfit(error, what="an event")
        raise InvalidEvent(f"the event does not fit: {said}", field=field, index=index) from None
    except _UNREADABLE as error:
        said = _say(error, payload if read is _read_json else None)
        raise InvalidEvent(f"the event can't be read: {said}", index=index) from None
    _check_fields(fields, index)
    if _known_names.unremarkable.issuperset(names):
        return Event(fields, payload)
    return Event(fields, payload, _known_names.misspelt(names))


def _read_json(payload: bytes) -> tuple[EventFields, Iterable[str]]:
    fields = _fields_from_json(payload)
    _bound_depth(payload)
    return fields, refuse_repeated_names(payload)


def refuse_repeated_names(document: bytes) -> Any:
    """Return what JSON holds, numbers perhaps as text.

    Raises InvalidEvent where an object has a name twice: readers differ on it. Decoding keeps one
    of two equal names, so JSON that encodes back to itself has none; that is told at the speed of
    C. Unusual spellings of numbers and text are left to the slow look.
    """
    try:
        held = _any_from_json(document)
        again = _encode_json(held)
    except msgspec.MsgspecError:
        pass
    else:
        if again == document or again == msgspec.json.format(document, indent=-1):
            return held
    return json.loads(document, object_pairs_hook=_refuse_twice, parse_int=str, parse_float=str)


def _bound_depth(payload: bytes) -> None:
    if len(payload) <= 2 * MAX_DEPTH or payload.count(b"{") + payload.count(b"[") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _NOT_BRACKETS.sub(b"", payload):
        depth += 1 if bracket in b"{[" else -1
        if depth > MAX_DEPTH:
            raise InvalidEvent(_TOO_DEEP)


def _refuse_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = dict(pairs)
    if len(names) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        shown = "".join(char if char.isprintable() else "\ufffd" for char in twice[:64])
        raise InvalidEvent(
            f'the name "{shown}" stands twice in one object; give each name once',
            field=twice if twice in FIELD_NAMES else None,
        )
    return names


def _read_msgpack(payload: bytes) -> tuple[EventFields, Iterable[str]]:
    fields = _fields_from_msgpack(payload)
    try:
        names: dict[str, Any] = _flat_from_msgpack(payload)
    except msgspec.ValidationError:
        return fields, _check_packed(payload, 1)
    _refuse_fewer(payload, len(names))
    return fields, names


def _check_packed(value: bytes, depth: int) -> Iterable[str]:
    """Hold a MessagePack value of any kind to the rules for JSON; returns a map's names."""
    first = value[0]
    parts: Iterable[msgspec.Raw] = ()
    names: Mapping[str, msgspec.Raw] = {}
    if first >> 4 == 0x8 or first in {0xDE, 0xDF}:
        names = _names_from_msgpack(value)
        _refuse_fewer(value, len(names))
        parts = names.values()
    elif first >> 4 == 0x9 or first in {0xDC, 0xDD}:
        parts = _array_from_msgpack(value)
    elif first >> 5 == 0b101 or 0xD9 <= first <= 0xDB:
        _text_from_msgpack(value)
        return ()
    else:
        _check_extension(value)
        return ()
    if depth > MAX_DEPTH:
        raise InvalidEvent(_TOO_DEEP)
    for part in parts:
        _check_packed(bytes(part), depth + 1)
    return names


def _check_extension(value: bytes) -> None:
    """Refuse a timestamp (type -1) that the MessagePack specification does not have."""
    first = value[0]
    if 0xD4 <= first <= 0xD8:
        kind, data = value[1], value[2:]
    elif 0xC7 <= first <= 0xC9:
        at = 1 + (1 << (first - 0xC7))
        kind, data = value[at], value[at + 1 :]
    else:
        return
    if kind != _TIMESTAMP:
        return
    nanoseconds = {
        4: 0,
        8: int.from_bytes(data[:4], "big") >> 2,
        12: int.from_bytes(data[:4], "big"),
    }
    if nanoseconds.get(len(data), _SECOND_NS) >= _SECOND_NS:
        raise InvalidEvent(
            "a timestamp extension holds 4, 8 or 12 bytes, and less than a second of ns"
        )


def _refuse_fewer(packed_map: bytes, count: int) -> None:
    if count != _size(packed_map):
        raise InvalidEvent("a name stands twice in the event; give each name once")


def _size(packed: bytes) -> int:
    """Elements that a MessagePack array or map declares (fix, 16 or 32 bit form)."""
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
            raise _misfit(
                place, f"holds {len(value)} characters; at most {MAX_FIELD_CHARS} are taken", index
            )
        if not value.isprintable() and has_control(value):
            raise _misfit(place, "holds a control character; remove it", index)
    if fields.event_type is not None and fields.event_type.startswith(RESERVED_PREFIX):
        raise InvalidEvent(
            f'event types that begin with "{RESERVED_PREFIX}" are written by the server alone',
            field="event_type",
            index=index,
        )
    if fields.timestamp is not None and not is_time(fields.timestamp):
        raise InvalidEvent(
            f"timestamp must be an RFC 3339 time such as {EXAMPLE}",
            field="timestamp",
            index=index,
        )


def _misfit(place: int, said: str, index: int | None) -> InvalidEvent:
    name = FIELD_NAMES[place]
    return InvalidEvent(f"{name} {said}", field=name, index=index)


def _require_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"the body can't be read: {json_fault(body, error)}") from None


def _say(error: Exception, json_bytes: bytes | None = None) -> str:
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    return msgpack_fault(error) if json_bytes is None else json_fault(json_bytes, error)


def _is_one_json(body: bytes) -> bool:
    """Whether a refused NDJSON body of modest size is pretty-printed JSON."""
    if len(body) > EXPLAINED_BYTES or body.count(b"\n") < 1 or body.lstrip()[:1] not in b"{[":
        return False
    try:
        _any_from_json(body)
    except (*_UNREADABLE, ValueError):
        return False
    return b"\n" in body.strip()


def _odd(body: bytes) -> str:
    """Why bytes that begin neither an object nor an array may have been meant as one."""
    if body[:3] == codecs.BOM_UTF8 or b"\x00" in body[:4]:
        return f"; {json_fault(body, ValueError())}"
    return ""


def _field_at_fault(error: msgspec.ValidationError) -> str | None:
    _, _, path = str(error).rpartition("`$.")
    name = path.rstrip("`")
    return name if name in FIELD_NAMES else None
