"""Blocks in the format of PostgreSQL's binary COPY.

A stream is an 11-byte signature, two 32-bit words (flags, length of an
extension), then rows: a 16-bit field count and, per field, a 32-bit length (-1
for NULL) and its bytes, all big-endian; the count -1 ends the stream.
https://www.postgresql.org/docs/current/sql-copy.html (File Formats, Binary Format)
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final, Generic, NamedTuple, TypeVar

from ledger.blocks.block import Block
from ledger.entry import HASH_BYTES
from ledger.errors import FormatError
from ledger.storage.copy_format import COPY_SIGNATURE, COPY_TRAILER

_COUNT: Final = Struct(">h")
_LENGTH: Final = Struct(">i")
_BIGINT: Final = Struct(">q")
_HEADER_WORDS: Final = Struct(">iI")
_HEADER_BYTES: Final = len(COPY_SIGNATURE) + _HEADER_WORDS.size
_FIXED: Final = Struct(">hiqiqiqiqi32siq")
"""A row up to raw_bytes, if no column is NULL and the hash has its width: nearly every row."""
_WIDTHS: Final = (8, 8, 8, 8, HASH_BYTES, 8)
_NUMBERS: Final = (0, 1, 2, 3, 5)
_BYTES: Final = (4, 6, 7, 8, 9)
"""The places of the columns of both kinds."""
GATHERED_BYTES: Final = 128 * 1024
"""Bytes that are parsed at a time: small blocks would be too few for its fixed cost."""


Row = TypeVar("Row")


class CopyError(FormatError):
    """The bytes are not a binary COPY of blocks: a fault of the database or the connection."""


class CopiedBlock(NamedTuple):
    """One row of the table, with any content; columns in table order.

    ``anchored`` is PostgreSQL's time in microseconds, with any value. ``absent`` lists the columns
    that are NULL or were too large to be sent: they are 0 or b"" here.
    """

    org_id: int
    last_seq: int
    anchored: int
    first_seq: int
    last_hash: bytes
    raw_bytes: int
    tags: bytes
    ends: bytes
    leaves: bytes
    payloads: bytes
    absent: tuple[str, ...] = ()

    @property
    def entry_count(self) -> int:
        """The number of its entries, as its seqs say."""
        return self.last_seq - self.first_seq + 1


FIELDS: Final = Block._fields


def skip_header(buffer: bytes) -> int | None:
    """The position of the first row, or None while the header is incomplete. Raises CopyError."""
    if len(buffer) < _HEADER_BYTES:
        return None
    if not buffer.startswith(COPY_SIGNATURE):
        raise CopyError("the stream is not a binary COPY")
    _flags, extension_bytes = _HEADER_WORDS.unpack_from(buffer, len(COPY_SIGNATURE))
    return _HEADER_BYTES + int(extension_bytes)


def read_row(buffer: bytes, position: int, fields: int) -> tuple[list[bytes | None], int] | None:
    """Read the values of any row at ``position``; returns them and its end.

    None at the trailer or if the row is incomplete. Raises CopyError for another number of fields.
    """
    end = len(buffer)
    if end - position < _COUNT.size:
        return None
    (count,) = _COUNT.unpack_from(buffer, position)
    if count == -1:
        return None
    if count != fields:
        raise CopyError(f"the database sent a row of {count} columns, not {fields}")
    position += _COUNT.size
    values: list[bytes | None] = []
    for _ in range(fields):
        if end - position < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(buffer, position)
        position += _LENGTH.size
        if length < 0:
            values.append(None)
            continue
        if end - position < length:
            return None
        values.append(buffer[position : position + length])
        position += length
    return values, position


def read_block(buffer: bytes, position: int) -> tuple[CopiedBlock, int] | None:
    """Read the block at ``position``, with any content; returns it and its end.

    None at the trailer or if the row is incomplete. Raises CopyError for another row.
    """
    return _read_regular(buffer, position) or _read_any(buffer, position)


def _read_regular(buffer: bytes, position: int) -> tuple[CopiedBlock, int] | None:
    """Read a complete row in which every fixed column has its width, at less cost; else None."""
    at = position + _FIXED.size
    if len(buffer) < at:
        return None
    (
        count, n1, org_id, n2, last_seq, n3, anchored, n4, first_seq, n5, last_hash, n6, raw_bytes,
    ) = _FIXED.unpack_from(buffer, position)  # fmt: skip
    if count != len(FIELDS) or (n1, n2, n3, n4, n5, n6) != _WIDTHS:
        return None
    columns = read_columns(buffer, at, 4)
    if columns is None:
        return None
    (tags, ends, leaves, payloads), end = columns
    block = CopiedBlock(
        org_id, last_seq, anchored, first_seq, last_hash, raw_bytes, tags, ends, leaves, payloads
    )
    return block, end


def read_columns(buffer: bytes, at: int, count: int) -> tuple[list[bytes], int] | None:
    """Read so many columns and return their end; None if one is NULL or incomplete."""
    values: list[bytes] = []
    size = len(buffer)
    for _ in range(count):
        start = at + _LENGTH.size
        if start > size:
            return None
        (length,) = _LENGTH.unpack_from(buffer, at)
        at = start + length
        if length < 0 or at > size:
            return None
        values.append(buffer[start:at])
    return values, at


def _read_any(buffer: bytes, position: int) -> tuple[CopiedBlock, int] | None:
    row = read_row(buffer, position, len(FIELDS))
    if row is None:
        return None
    values, end = row
    absent = tuple(name for name, value in zip(FIELDS, values, strict=True) if value is None)
    org_id, last_seq, anchored, first_seq, raw_bytes = (number_of(values[at]) for at in _NUMBERS)
    last_hash, tags, ends, leaves, payloads = (values[at] or b"" for at in _BYTES)
    block = CopiedBlock(
        org_id, last_seq, anchored, first_seq, last_hash, raw_bytes, tags, ends, leaves, payloads,
        absent,
    )  # fmt: skip
    return block, end


def number_of(value: bytes | None) -> int:
    """Return a bigint's value, 0 for NULL. Raises CopyError for another width."""
    if value is None:
        return 0
    if len(value) != _BIGINT.size:
        raise CopyError("the database sent a number of another width than 64 bits")
    number: int = _BIGINT.unpack(value)[0]
    return number


class CopyStream(Generic[Row]):
    """Cuts the bytes of a COPY into rows, which ``read`` reads, and hands each to ``take``.

    Call feed for all bytes, then finish. Both raise CopyError for bytes that are no such COPY.
    """

    def __init__(
        self,
        read: Callable[[bytes, int], tuple[Row, int] | None],
        take: Callable[[Row], object],
    ) -> None:
        self._read = read
        self._take = take
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._rest = b""
        self._started = False

    def feed(self, chunk: bytes) -> None:
        """Add the next bytes of the stream, cut anywhere."""
        self._waiting.append(bytes(chunk))
        self._waiting_bytes += len(chunk)
        if self._waiting_bytes >= GATHERED_BYTES:
            self._parse()

    def finish(self) -> None:
        """Hand over the last rows. Raises CopyError if the stream was cut."""
        self._parse()
        if self._rest != COPY_TRAILER:
            raise CopyError("the database's stream of rows ended early")

    def _parse(self) -> None:
        buffer = b"".join((self._rest, *self._waiting))
        self._waiting.clear()
        self._waiting_bytes = 0
        position: int | None = 0
        if not self._started:
            position = skip_header(buffer)
            self._started = position is not None and position <= len(buffer)
        self._rest = buffer[self._rows(buffer, position or 0) :] if self._started else buffer

    def _rows(self, buffer: bytes, position: int) -> int:
        """Hand over the complete rows; returns the position of the first incomplete one."""
        read, take = self._read, self._take
        while (row := read(buffer, position)) is not None:
            take(row[0])
            position = row[1]
        return position
