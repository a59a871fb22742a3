"""New values for some fields of an entry or of a block."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

from ledger.chain import StoredEntry
from ledger.entry import from_datetime, to_datetime
from tests.support.block_format import Row

Value: TypeAlias = bytes | int | datetime
Change: TypeAlias = Value | Callable[[Any], Value]
"""A field's new value, or a function that makes it of the old value."""
Changed = TypeVar("Changed", StoredEntry, Row)


def changed(value: Changed, changes: dict[str, Change]) -> Changed:
    """Return an entry or a block with the named fields changed, each to another value."""
    new = with_values(value, changes)
    kept = [name for name in changes if getattr(value, name) == getattr(new, name)]
    assert not kept, f"{kept} would not change"
    return new


def with_values(value: Changed, changes: dict[str, Change]) -> Changed:
    """Return an entry or a block with the named fields set."""
    new = {
        name: change(getattr(value, name)) if callable(change) else change
        for name, change in changes.items()
    }
    return value._replace(**new)  # type: ignore[arg-type]


def flipped(value: bytes, bit: int) -> bytes:
    """Flip one bit, numbered modulo their length as PostgreSQL numbers those of a bytea."""
    at, shift = divmod(bit % (8 * len(value)), 8)
    return value[:at] + bytes([value[at] ^ 1 << shift]) + value[at + 1 :]


def bit_flipped(value: Value, bit: int) -> Value:
    """Flip one bit of bytes, of a 64-bit integer, or of the lower 50 of a time in microseconds."""
    if isinstance(value, bytes):
        return flipped(value, bit)
    if isinstance(value, datetime):
        return to_datetime(from_datetime(value) ^ 1 << bit % 50)
    number = value % (1 << 64) ^ 1 << bit % 64
    return number - (1 << 64 if number >> 63 else 0)
