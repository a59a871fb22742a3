"""Checks a MessagePack map in one pass, by the rules for JSON events.

The bytes are read once, with a stack of the open maps and arrays: the work is linear in the bytes,
whatever the depth.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from ledger.errors import InvalidEvent

MAX_DEPTH: Final = 128
"""Levels of objects and arrays; the event itself is the first level."""
TOO_DEEP: Final = f"it nests too deeply; at most {MAX_DEPTH} levels are allowed"

_TIMESTAMP: Final = 0xFF
_SECOND_NS: Final = 1_000_000_000
_RUN_LEAST: Final = 8
_ONE_BYTE_VALUES: Final = re.compile(rb"[\x00-\x7f\xc0\xc2\xc3\xe0-\xff]+")
"""Numbers, booleans and nil of one byte each."""
_LENGTHS: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""The bytes of the length after the first byte of binary data, extension values and texts."""
_COUNTS: Final = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
"""The bytes of the count after the first byte of arrays and maps."""
_MAPS: Final = frozenset({*range(0x80, 0x90), 0xDE, 0xDF})
_TEXTS: Final = frozenset({*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB})
_EXTENSIONS: Final = frozenset({0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)})
_name_of = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode


def _fixed_sizes() -> list[int]:
    """Return the size of the value that each first byte begins, where it follows from that byte."""
    sizes = [0] * 256
    for first in (*range(0x80), 0xC0, 0xC2, 0xC3, *range(0xE0, 0x100)):
        sizes[first] = 1
    sizes[0xCA:0xD4] = [5, 9, 2, 3, 5, 9, 2, 3, 5, 9]  # floats, then whole numbers
    return sizes


_SIZES: Final = _fixed_sizes()


def checked_names(packed: bytes) -> set[str]:
    """Check an event that decodes as a MessagePack map; return the names of its fields.

    Raises InvalidEvent, UnicodeDecodeError, or msgspec's ValidationError for a name that is no text.
    """
    at, left, names = _opened(packed, 0)
    closed: list[tuple[int, set[str] | None]] = []
    top = names
    while left or closed:
        if not left:
            left, names = closed.pop()
            continue
        if names is not None:
            at = _add_name(packed, at, names)
        elif left >= _RUN_LEAST and (run := _ONE_BYTE_VALUES.match(packed, at, at + left)):
            left -= run.end() - at
            at = run.end()
            continue
        left -= 1
        first = packed[at]
        if size := _SIZES[first]:
            at += size
        elif first in _COUNTS or first < 0xA0:
            if len(closed) + 1 >= MAX_DEPTH:
                raise InvalidEvent(TOO_DEEP)
            closed.append((left, names))
            at, left, names = _opened(packed, at)
        else:
            at = _after_bytes(packed, at, first)
    assert top is not None, "an event is a map"
    return top


def _opened(packed: bytes, at: int) -> tuple[int, int, set[str] | None]:
    """Return the start of the elements of an array or map, their number, and a map's names so far."""
    first = packed[at]
    names: set[str] | None = set() if first in _MAPS else None
    width = _COUNTS.get(first)
    if width is None:
        return at + 1, first & 0x0F, names
    start = at + 1 + width
    return start, int.from_bytes(packed[at + 1 : start], "big"), names


def _extent(packed: bytes, at: int, first: int) -> tuple[int, int]:
    """Return start and end of the bytes in a text, binary data or an extension value."""
    if 0xA0 <= first < 0xC0:
        return at + 1, at + 1 + (first & 0x1F)
    if 0xD4 <= first <= 0xD8:
        return at + 1, at + 2 + (1 << (first - 0xD4))
    start = at + 1 + _LENGTHS[first]
    size = int.from_bytes(packed[at + 1 : start], "big")
    return start, start + size + (first in _EXTENSIONS)  # the type of the extension is not counted


def _add_name(packed: bytes, at: int, names: set[str]) -> int:
    """Add the next name of a map; return where its value starts."""
    first = packed[at]
    if first not in _TEXTS:
        _name_of(b"\x81" + packed[at : at + 16])  # raises the error that names its kind
        raise InvalidEvent("the names in an object must be text")
    start, end = _extent(packed, at, first)
    name = packed[start:end].decode()
    if name in names:
        raise InvalidEvent("a name appears twice in an object of the event; give each name once")
    names.add(name)
    return end


def _after_bytes(packed: bytes, at: int, first: int) -> int:
    """Check a text or an extension value; return where it ends."""
    start, end = _extent(packed, at, first)
    if first in _TEXTS:
        packed[start:end].decode()
    elif first in _EXTENSIONS:
        _check_extension(packed[start], packed[start + 1 : end])
    return end


def _check_extension(kind: int, data: bytes) -> None:
    """Refuse a timestamp (type -1) that does not follow the MessagePack specification."""
    if kind != _TIMESTAMP:
        return
    nanoseconds = {
        4: 0,
        8: int.from_bytes(data[:4], "big") >> 2,
        12: int.from_bytes(data[:4], "big"),
    }
    if nanoseconds.get(len(data), _SECOND_NS) >= _SECOND_NS:
        raise InvalidEvent(
            "a MessagePack timestamp extension must have 4, 8 or 12 bytes, and fewer than "
            "1,000,000,000 nanoseconds"
        )
