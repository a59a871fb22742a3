"""Rows in the format of PostgreSQL's binary COPY.

A stream is an 11-byte signature, two 32-bit words (flags, length of an
extension), then rows: a 16-bit field count and, per field, a 32-bit length (-1
for NULL) and its bytes, all big-endian; the count -1 ends the stream.
https://www.postgresql.org/docs/current/sql-copy.html (File Formats, Binary Format)
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from ledger.chain import StoredEntry
from ledger.entry import MAX_TIME_US, to_datetime
from ledger.errors import FormatError
from ledger.storage.copy_format import COPY_SIGNATURE, PG_EPOCH_US

FIELDS: Final = 9
BIGINT_BYTES: Final = 8
FIXED: Final = Struct(">18sqiqiqiqi32si32si")
"""A right row up to the length of its leaf: every column before it has a fixed width.
The prefix (field count, org_id, length of seq) is the same in each row of a trail."""
LENGTH: Final = Struct(">i")

_COUNT = Struct(">h")
_BIGINT = Struct(">q")
_HEADER_WORDS = Struct(">iI")
_HEADER_BYTES = len(COPY_SIGNATURE) + _HEADER_WORDS.size
_COLUMNS: Final = StoredEntry._fields


class CopyError(FormatError):
    """The bytes are not a binary COPY of entries: a fault of the database or the connection."""


class RawRow(NamedTuple):
    """A row with any content; ``anchored_us`` is None outside the years 1970 to 9999.

    ``absent`` lists the columns that are NULL or were too large to be sent.
    """

    entry: StoredEntry
    anchored_us: int | None
    absent: tuple[str, ...]


def prefix_of(org_id: int) -> bytes:
    """The first 18 bytes of every row of an org's trail."""
    return Struct(">hiqi").pack(FIELDS, BIGINT_BYTES, org_id, BIGINT_BYTES)


def skip_header(buffer: bytes) -> int | None:
    """The position of the first row, or None while the header is incomplete. Raises CopyError."""
    if len(buffer) < _HEADER_BYTES:
        return None
    if not buffer.startswith(COPY_SIGNATURE):
        raise CopyError("the stream is not a binary COPY")
    _flags, extension_bytes = _HEADER_WORDS.unpack_from(buffer, len(COPY_SIGNATURE))
    return _HEADER_BYTES + int(extension_bytes)


def read_loose(buffer: bytes, position: int) -> tuple[RawRow, int] | None:
    """Read any row at ``position``; returns it and its end, None at the trailer or if incomplete.

    Accepts NULLs and hashes of any length, so that no altered row stops a verification.
    Raises CopyError if the bytes are not a row of entries.
    """
    end = len(buffer)
    if end - position < _COUNT.size:
        return None
    (count,) = _COUNT.unpack_from(buffer, position)
    if count == -1:
        return None
    if count != FIELDS:
        raise CopyError(f"the database sent a row of {count} columns, not {FIELDS}")
    position += _COUNT.size
    values: list[bytes | None] = []
    for _ in range(FIELDS):
        if end - position < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(buffer, position)
        position += LENGTH.size
        if length < 0:
            values.append(None)
            continue
        if end - position < length:
            return None
        values.append(buffer[position : position + length])
        position += length
    return _loose(values), position


def _loose(values: list[bytes | None]) -> RawRow:
    absent = tuple(name for name, value in zip(_COLUMNS, values, strict=True) if value is None)
    org_id, seq, anchored, actor_tag, subject_tag = (
        _BIGINT.unpack(value)[0] if value is not None else 0 for value in values[:5]
    )
    anchored_us = anchored + PG_EPOCH_US
    in_range = 0 <= anchored_us <= MAX_TIME_US
    entry = StoredEntry(
        org_id,
        seq,
        to_datetime(anchored_us if in_range else 0),
        actor_tag,
        subject_tag,
        *(value or b"" for value in values[5:]),
    )
    return RawRow(entry, anchored_us if in_range else None, absent)
