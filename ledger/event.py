"""Events as callers send them: one JSON object, an array, NDJSON or MessagePack.

The payload is the event's exact bytes. Nine names are recognised at the top
level of the object; everything else is payload only. What could be read in two
ways (a name that stands twice, text that is not UTF-8) is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import msgspec

from ledger.entry import has_control
from ledger.errors import InvalidEvent, PayloadTooLarge

MAX_FIELD_CHARS: Final = 1_024
"""Bound of each recognised field; eight of them always fit in a leaf."""


class EventFields(msgspec.Struct):
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


class Event(msgspec.Struct):
    """One event: its recognised fields and its bytes as sent."""

    fields: EventFields
    payload: bytes


FIELD_NAMES: Final = EventFields.__struct_fields__

_fields_from_json = msgspec.json.Decoder(EventFields).decode
_fields_from_msgpack = msgspec.msgpack.Decoder(EventFields).decode
_names_from_json = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_names_from_msgpack = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode
_array_from_json = msgspec.json.Decoder(list[msgspec.Raw]).decode
_array_from_msgpack = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_encode_json = msgspec.json.Encoder().encode

_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


def parse_json(body: bytes, *, max_events: int, max_payload: int) -> tuple[list[Event], bool]:
    """Events of a JSON body, and whether it was one object rather than an array.

    Raises InvalidEvent (with the index of the event at fault) or PayloadTooLarge.
    """
    _require_utf8(body)
    start = body.lstrip()[:1]
    if start == b"{":
        return [_event(body, None, max_payload, _read_json)], True
    if start != b"[":
        raise InvalidEvent("the body must be a JSON object or an array of objects")
    try:
        parts = _array_from_json(body)
    except _UNREADABLE as error:
        raise InvalidEvent(f"the body is not valid JSON: {_say(error)}") from None
    return _events([bytes(part) for part in parts], max_events, max_payload, _read_json), False


def parse_ndjson(body: bytes, *, max_events: int, max_payload: int) -> list[Event]:
    """Events of an NDJSON body: one JSON object a line; blank lines are skipped."""
    _require_utf8(body)
    lines = [line for line in (raw.strip(b" \t\r") for raw in body.split(b"\n")) if line]
    return _events(lines, max_events, max_payload, _read_json)


def parse_msgpack(body: bytes, *, max_events: int, max_payload: int) -> list[Event]:
    """Events of a MessagePack body: one array of maps with string keys."""
    try:
        parts = _array_from_msgpack(body)
    except _UNREADABLE as error:
        raise InvalidEvent(f"the body is not a MessagePack array: {_say(error)}") from None
    return _events([bytes(part) for part in parts], max_events, max_payload, _read_msgpack)


def is_json_payload(payload: bytes) -> bool:
    """Whether payload bytes are JSON (an object) rather than a MessagePack map."""
    return payload.lstrip()[:1] == b"{"


def _events(
    parts: list[bytes], max_events: int, max_payload: int, read: Callable[[bytes], EventFields]
) -> list[Event]:
    if not parts:
        raise InvalidEvent("the request holds no event; send at least one")
    if len(parts) > max_events:
        raise PayloadTooLarge(
            f"{len(parts)} events in one request; at most {max_events} are taken, send several requests"
        )
    return [_event(part, index, max_payload, read) for index, part in enumerate(parts)]


def _event(
    payload: bytes, index: int | None, max_payload: int, read: Callable[[bytes], EventFields]
) -> Event:
    if len(payload) > max_payload:
        raise PayloadTooLarge(
            f"the event has {len(payload)} bytes; at most {max_payload} are taken", index=index
        )
    try:
        fields = read(payload)
    except InvalidEvent as error:
        error.index = index
        raise
    except msgspec.ValidationError as error:
        field = _field_at_fault(error)
        raise InvalidEvent(f"the event does not fit: {error}", field=field, index=index) from None
    except _UNREADABLE as error:
        raise InvalidEvent(f"the event can't be read: {_say(error)}", index=index) from None
    _check_fields(fields, index)
    return Event(fields, payload)


def _read_json(payload: bytes) -> EventFields:
    fields = _fields_from_json(payload)
    # Compact JSON with distinct names encodes back to its own length; only
    # other spellings (white space, escaped names) need the slow look.
    if len(_encode_json(_names_from_json(payload))) != len(payload):
        json.loads(payload, object_pairs_hook=_refuse_twice, parse_int=str, parse_float=str)
    return fields


def _refuse_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = dict(pairs)
    if len(names) != len(pairs):
        twice = next(name for name, count in _counts(pairs) if count > 1)
        raise InvalidEvent(
            f"the name {twice[:64]!r} stands twice in one object; give each name once",
            field=twice if twice in FIELD_NAMES else None,
        )
    return names


def _counts(pairs: list[tuple[str, object]]) -> Iterator[tuple[str, int]]:
    counts: dict[str, int] = {}
    for name, _ in pairs:
        counts[name] = counts.get(name, 0) + 1
    return iter(counts.items())


def _read_msgpack(payload: bytes) -> EventFields:
    fields = _fields_from_msgpack(payload)
    if len(_names_from_msgpack(payload)) != _map_size(payload):
        raise InvalidEvent("a name stands twice in the event; give each name once")
    return fields


def _map_size(payload: bytes) -> int:
    """Number of pairs a MessagePack map declares (fixmap, map 16 or map 32)."""
    first = payload[0]
    if first == 0xDE:
        return int.from_bytes(payload[1:3], "big")
    if first == 0xDF:
        return int.from_bytes(payload[1:5], "big")
    return first & 0x0F


def _check_fields(fields: EventFields, index: int | None) -> None:
    for name in FIELD_NAMES:
        value = getattr(fields, name)
        if value is None:
            continue
        if len(value) > MAX_FIELD_CHARS:
            raise InvalidEvent(
                f"{name} holds {len(value)} characters; at most {MAX_FIELD_CHARS} are taken",
                field=name,
                index=index,
            )
        if not value.isprintable() and has_control(value):
            raise InvalidEvent(
                f"{name} holds a control character; remove it", field=name, index=index
            )
    if fields.timestamp is not None and not _is_time(fields.timestamp):
        raise InvalidEvent(
            "timestamp must be an ISO 8601 / RFC 3339 time such as 2026-01-31T12:00:00Z",
            field="timestamp",
            index=index,
        )


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _require_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"the body is not UTF-8: byte {error.start} is out of place") from None


def _say(error: Exception) -> str:
    return "it nests too deeply" if isinstance(error, RecursionError) else str(error)


def _field_at_fault(error: msgspec.ValidationError) -> str | None:
    _, _, path = str(error).rpartition("`$.")
    name = path.rstrip("`")
    return name if name in FIELD_NAMES else None
