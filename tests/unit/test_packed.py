"""MessagePack in one pass: accepts and refuses what a reader that decodes level by level does."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidEvent
from ledger.packed import MAX_DEPTH, checked_names

_names = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode
_array = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_text = msgspec.msgpack.Decoder(str).decode


def by_levels(packed: bytes, depth: int = 1) -> set[str]:
    """The rules once more, by decoding the rest of each level again: slow, and easy to believe."""
    first = packed[0]
    if first >> 4 == 0x8 or first in {0xDE, 0xDF}:
        found = _names(packed)
        declared = first & 0x0F
        if first >= 0xDE:
            declared = int.from_bytes(packed[1 : 3 if first == 0xDE else 5], "big")
        assert len(found) == declared, "a name appears twice"
        parts = list(found.values())
    elif first >> 4 == 0x9 or first in {0xDC, 0xDD}:
        found, parts = {}, _array(packed)
    else:
        if first >> 5 == 0b101 or 0xD9 <= first <= 0xDB:
            _text(packed)
        elif first in {*range(0xD4, 0xD9), 0xC7, 0xC8, 0xC9}:
            msgspec.msgpack.decode(packed)  # refuses timestamps that are not well formed
        return set()
    assert depth <= MAX_DEPTH
    for part in parts:
        by_levels(bytes(part), depth + 1)
    return set(found)


def verdict(read: Any, packed: bytes) -> set[str] | None:
    try:
        found: set[str] = read(packed)
    except (AssertionError, InvalidEvent, msgspec.MsgspecError, UnicodeError):
        return None
    return found


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=20))
)
keys = st.text(max_size=3)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(keys | st.integers(0, 300), inner),
    max_leaves=40,
)


@given(st.dictionaries(keys, values, max_size=20))
def test_what_was_encoded_is_judged_as_level_by_level(value: dict[str, Any]) -> None:
    packed = msgspec.msgpack.encode(value)
    assert verdict(checked_names, packed) == verdict(by_levels, packed)


@given(st.dictionaries(keys, values, max_size=20), st.data())
def test_damaged_bytes_that_still_decode_are_judged_alike(
    value: dict[str, Any], data: st.DataObject
) -> None:
    packed = bytearray(msgspec.msgpack.encode(value))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        msgspec.msgpack.decode(packed, type=dict[msgspec.Raw, msgspec.Raw])
    except (msgspec.MsgspecError, TypeError):
        return  # the server never gets here with bytes that are no map
    assert verdict(checked_names, bytes(packed)) == verdict(by_levels, bytes(packed))


def test_long_forms_and_runs() -> None:
    run = bytes([1, 2, 3, 0xC0, 0xC3, 0xFF]) * 50
    array = b"\xdc" + len(run).to_bytes(2, "big") + run
    nested = b"\xdd\x00\x00\x00\x03" + array + b"\xcb" + bytes(8) + array
    packed = b"\xdf\x00\x00\x00\x02" + b"\xd9\x01a" + nested + b"\xda\x00\x01b" + b"\x80"
    assert checked_names(packed) == by_levels(packed) == {"a", "b"}
