"""MACs of rows: every column counts, and no two rows have the same bytes."""

from __future__ import annotations

import hmac
import struct
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.rows import DecidingTable, Value

KEY = bytes(range(32))
TABLE = DecidingTable("things", ("id", "org_id"), ("role", "until"))
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(4253, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
NUMBERS = st.integers(-(2**63), 2**63 - 1)
VALUES: st.SearchStrategy[Value] = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.text(max_size=20),
    st.binary(max_size=20),
    TIMES,
    st.dates(),
    st.lists(NUMBERS, max_size=4),
)
ROWS = st.tuples(VALUES, VALUES, VALUES, VALUES)


def same(one: Value, other: Value) -> bool:
    return type(one) is type(other) and one == other


@given(ROWS, ROWS)
def test_other_rows_have_other_macs(one: tuple[Value, ...], other: tuple[Value, ...]) -> None:
    equal = all(map(same, one, other))
    assert (TABLE.mac(KEY, *one) == TABLE.mac(KEY, *other)) is equal


@given(ROWS)
def test_a_row_is_of_its_table_columns_and_key(row: tuple[Value, ...]) -> None:
    mac = TABLE.mac(KEY, *row)
    assert TABLE.is_right(KEY, mac, *row)
    renamed = TABLE._replace(deciding=("role", "since"))
    moved = TABLE._replace(key=("id",), deciding=("org_id", "role", "until"))
    assert moved.mac(KEY, *row) == mac  # the same columns in the same order
    assert TABLE._replace(name="thing").mac(KEY, *row) != mac
    assert renamed.mac(KEY, *row) != mac
    assert TABLE.mac(KEY[::-1], *row) != mac
    assert not TABLE.is_right(KEY, mac[::-1], *row)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_a_number_that_no_row_has_is_not_authentic(value: int) -> None:
    assert not TABLE.is_right(KEY, bytes(32), value, 0, 0, 0)


def test_the_bytes_are_those_of_the_format() -> None:
    row = ("k1", 7, b"\1\2", datetime(2026, 11, 27, 12, tzinfo=UTC) + timedelta(microseconds=5))
    written = (
        b"quire row 1\0things\0id,org_id,role,until\0"
        b"\3\0\0\0\2k1"
        b"\2\0\0\0\0\0\0\0\7"
        b"\4\0\0\0\2\1\2"
        b"\5" + struct.pack(">q", 1_795_780_800_000_005)
    )
    assert TABLE.mac(KEY, *row) == hmac.digest(KEY, written, "sha256")


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, "00"),
        (True, "0101"),
        (False, "0100"),
        (-1, "02ffffffffffffffff"),
        ("é", "0300000002c3a9"),
        (b"", "0400000000"),
        (date(1970, 1, 3), "060000000000000002"),
        ([], "0700000000"),
        ([1, 2], "070000000200000000000000010000000000000002"),
    ],
    ids=str,
)
def test_each_type_has_its_bytes(value: Any, encoded: str) -> None:
    table = DecidingTable("t", ("c",), ())
    head = b"quire row 1\0t\0c\0"
    assert table.mac(KEY, value) == hmac.digest(KEY, head + bytes.fromhex(encoded), "sha256")
