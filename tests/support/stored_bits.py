"""Random single-bit changes of a trail's stored blocks, and where each must be found."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

from tests.support.block_format import FrameAt, Row, frames_at, piece_ends
from tests.support.changes import flipped

INTEGERS: Final = ("org_id", "last_seq", "anchored_at", "first_seq", "raw_bytes")
"""Columns of 64 bits, as the database stores and sends them."""


class BitChange(NamedTuple):
    """One changed bit of a block's column.

    ``within`` has every seq at which it may be found; with ``exactly`` it is found at all of
    them. ``frame``: the first and last seq of the frame that can't be read then.
    """

    number: int
    column: str
    bit: int
    within: range
    exactly: bool = False
    frame: tuple[int, int] | None = None


def random_bit(random: Random, rows: Sequence[Row]) -> BitChange:
    """Choose a block, one of its columns, and a bit of that."""
    number = random.randrange(len(rows))
    row = rows[number]
    column = random.choice([name for name in Row._fields if getattr(row, name) != b""])
    whole = range(row.first_seq, row.last_seq + 1)
    if column in INTEGERS:
        return _of_integer(row, number, column, random.randrange(64))
    bit = random.randrange(8 * len(getattr(row, column)))
    change = BitChange(number, column, bit, whole)
    if column == "last_hash":
        return change._replace(within=whole[-1:], exactly=True)
    if column == "tags":
        return change._replace(within=whole[bit // 48 : bit // 48 + 1], exactly=True)
    return change if column == "ends" else _of_frame(row, change)


def _of_integer(row: Row, number: int, column: str, bit: int) -> BitChange:
    change = BitChange(number, column, bit, range(row.first_seq, row.last_seq + 1))
    if column == "anchored_at":
        return change._replace(exactly=True)
    if column == "raw_bytes":
        return change._replace(within=change.within[-1:], exactly=True)
    return change


def _of_frame(row: Row, change: BitChange) -> BitChange:
    """A bit of a stored frame: of one entry if its bytes are stored as they are."""
    side = change.column == "payloads"
    at = change.bit // 8
    frame = next(one for one in frames_at(row)[side] if one.start <= at < one.end)
    first, last = row.first_seq + frame.first, row.first_seq + frame.last
    if frame.end - frame.start < frame.raw_size:
        return change._replace(within=range(first, first + 1), exactly=True, frame=(first, last))
    seq = row.first_seq + _owner(row, frame, at, side=side)
    return change._replace(within=range(seq, seq + 1), exactly=True)


def _owner(row: Row, frame: FrameAt, at: int, *, side: bool) -> int:
    """The position of the entry that has the byte ``at`` of a frame stored as it is."""
    return bisect_right(piece_ends(row)[side], frame.raw_start + at - frame.start)


def changed_wire(values: Sequence[int | bytes], column: int, bit: int) -> list[int | bytes]:
    """Flip a bit of a column of a block as it is sent."""
    value = values[column]
    if isinstance(value, bytes):
        new: int | bytes = flipped(value, bit)
    else:
        number = value % (1 << 64) ^ 1 << bit
        new = number - (1 << 64 if number >> 63 else 0)
    return [new if n == column else old for n, old in enumerate(values)]
