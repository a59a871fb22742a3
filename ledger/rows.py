"""MACs of the rows by which the server decides: a row counts only where its MAC is right.

Whoever can write to the database can write a row, but not its MAC: the key is derived from the
master key. A MAC covers the table, the primary key and every deciding column, so no row can be
altered, moved, copied to another org or made up. ``docs/format.md`` describes the bytes.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import cache
from typing import Final, NamedTuple

from ledger.errors import AppendRefused, ProblemType

MAC_BYTES: Final = 32
_LABEL: Final = b"quire row 1\x00"
_LENGTH: Final = struct.Struct(">I")
_NUMBER: Final = struct.Struct(">q")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY: Final = date(1970, 1, 1)

Value = str | bytes | int | bool | datetime | date | Sequence[int] | None
"""The value of a column; times must have a time zone."""


class RowNotAuthentic(AppendRefused):
    """A row by which the server decides was not written by it; what it stands for is refused."""

    problem_type = ProblemType(
        "row-not-authentic",
        500,
        "A row of the database was not written by this server",
        "the row of table api_keys with id 3f9a… has not the MAC that this server gave it. Run a "
        "full verification, and make what it stands for anew",
    )


class DecidingTable(NamedTuple):
    """A table whose rows decide: its primary key, and the other columns that decide.

    ``times`` are those of the columns that hold a time.
    """

    name: str
    key: tuple[str, ...]
    deciding: tuple[str, ...]
    times: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a MAC covers, in its order."""
        return (*self.key, *self.deciding)

    def selected(self) -> str:
        """Return the columns as SQL to read; a time that Python can't hold reads as NULL.

        Quire writes no such time: where NULL decides otherwise, the MAC is wrong.
        """
        return ", ".join(map(self._readable, self.columns))

    def _readable(self, column: str) -> str:
        if column not in self.times:
            return column
        return f"CASE WHEN {column} BETWEEN 'epoch' AND '4253-01-01Z' THEN {column} END"

    def mac(self, key: bytes, *values: Value) -> bytes:
        """Return the MAC of a row with these values of :attr:`columns`."""
        assert len(values) == len(self.columns), "one value for each column"
        head = _head(self.name, self.columns)
        return hmac.digest(key, head + b"".join(map(_encoded, values)), "sha256")

    def is_right(self, key: bytes, mac: bytes, *values: Value) -> bool:
        """Return whether a row with these values has this MAC; values that no row has do not."""
        try:
            return hmac.compare_digest(mac, self.mac(key, *values))
        except (struct.error, OverflowError):  # a number or time that Quire never writes
            return False


@cache
def _head(table: str, columns: tuple[str, ...]) -> bytes:
    return b"%b%b\x00%b\x00" % (_LABEL, table.encode(), ",".join(columns).encode())


def _encoded(value: Value) -> bytes:  # noqa: PLR0911 - one line for each type
    """Return a type byte and the value, so that no two rows have the same bytes."""
    if value is None:
        return b"\x00"
    if isinstance(value, bool):
        return b"\x01\x01" if value else b"\x01\x00"
    if isinstance(value, int):
        return b"\x02" + _NUMBER.pack(value)
    if isinstance(value, str):
        data = value.encode()
        return b"\x03" + _LENGTH.pack(len(data)) + data
    if isinstance(value, bytes):
        return b"\x04" + _LENGTH.pack(len(value)) + value
    if isinstance(value, datetime):
        past = value - _EPOCH
        return b"\x05" + _NUMBER.pack(
            (past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds
        )
    if isinstance(value, date):
        return b"\x06" + _NUMBER.pack((value - _FIRST_DAY).days)
    return b"\x07" + _LENGTH.pack(len(value)) + b"".join(map(_NUMBER.pack, value))
