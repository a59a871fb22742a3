"""The one parser of callers' times is exact at every bound."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidTime
from ledger.times import bound, is_time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00"),
        ("2026-01-31t12:00:00.5z", "2026-01-31T12:00:00.5"),
        ("2026-01-31 12:00:00+02:00", "2026-01-31T10:00:00"),
        ("2026-01-31T12:00:00-0530", "2026-01-31T17:30:00"),
        ("2026-01-31T12:00:00-00:00", "2026-01-31T12:00:00"),
        ("2026-01-31T12:00:00+23:59", "2026-01-30T12:01:00"),
        ("2026-01-31T12:00", "2026-01-31T12:00:00"),
        ("2026-01-31", "2026-01-31T00:00:00"),
        ("2026-01-31T12:00:00.0000000000000000000000000000001Z", "2026-01-31T12:00:00.000001"),
        ("2026-01-31T12:00:00.1234560000000000000000000000000Z", "2026-01-31T12:00:00.123456"),
        ("2026-01-31T12:00:00.123456000001Z", "2026-01-31T12:00:00.123457"),
        ("2026-01-31T23:59:59.9999999Z", "2026-02-01T00:00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00"),
        ("2016-12-31T23:59:60.9Z", "2017-01-01T00:00:00"),
        ("2016-12-31T15:59:60-08:00", "2017-01-01T00:00:00"),
        ("2017-01-01T00:59:60+01:00", "2017-01-01T00:00:00"),
        ("2024-02-29T23:59:60Z", "2024-03-01T00:00:00"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00"),
        ("0001-01-01T00:00:00-23:59", "0001-01-01T23:59:00"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999"),
        ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999"),
        ("9999-12-31T23:59:60Z", "9999-12-31T23:59:59.999999"),
    ],
)
def test_a_bound_is_the_first_microsecond_not_before_the_time(text: str, expected: str) -> None:
    assert is_time(text)
    assert bound(text) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize("text", [
    "", "yesterday", "1767268800", "20260131T120000Z", "2026-W05-6", "2026-031", "2026-1-31T12:00:00Z",
    "2026-01-31T1:00:00Z", "2026-01-31T12:0:00Z", "2026-01-31T12:00:0Z", "2026-01-31T24:00:00Z",
    "2026-01-31T12:60:00Z", "2026-01-31T12:00:61Z", "2026-01-31T12:00:60Z", "2026-01-30T23:59:60Z",
    "2016-12-31T23:59:60+01:00", "2026-01-31T23:59:60+00:01", "2026-01-31T12:00:00,5Z", "2026-01-31T12:00:00.Z",
    "2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+02", "2026-01-31T12:00:00+02:60", "2026-01-31T12:00:00+02:00:01",
    "2026-01-31T12:00:00 Z", "2026-01-31T12:00:00Z\n", "\n2026-01-31T12:00:00Z", "2026-01-31T12:00:00ZZ",
    "2026-01-31__12:00:00Z", "2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-00-10", "2026-01-00", "2026-13-01",
    "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z", "+2026-01-31T12:00:00Z",
    "٢٠٢٦-٠١-٣١T١٢:٠٠:٠٠Z", "2026-01-31T12:00:00.٥Z", "２０２６-01-31", "2026\u201001\u201031", "2026-01-31T12:00:00\u00a0Z",
    "2026-01-31T12:00:00UTC", "2026-01-31Z", "2026-01-31T", "2026-01-31T12Z", "2026-01-31T12:00:00Z\x00",
])  # fmt: skip
def test_other_text_is_not_a_time(text: str) -> None:
    assert not is_time(text)
    with pytest.raises(InvalidTime, match="RFC 3339"):
        bound(text)


@pytest.mark.parametrize(
    "text", ["9999-12-31T23:59:59-00:01", "9999-12-31T12:00:00-23:59", "0001-01-01T00:00:00+00:01"]
)
def test_a_year_beyond_the_calendar_is_out_of_range(text: str) -> None:
    assert is_time(text)  # an event may have this time: its text is kept, never compared
    with pytest.raises(InvalidTime, match="out of range"):
        bound(text)


@given(
    moment=st.datetimes(datetime(1970, 1, 1), datetime(4253, 1, 1)),  # noqa: DTZ001
    digits=st.text("0123456789", min_size=1, max_size=30),
    offset=st.integers(-1439, 1439),
    before=st.integers(-3, 3),
)
def test_every_microsecond_is_on_the_right_side_of_a_bound(
    moment: datetime, digits: str, offset: int, before: int
) -> None:
    local = moment.replace(microsecond=0)
    sign, (hours, minutes) = "-" if offset < 0 else "+", divmod(abs(offset), 60)
    text = f"{local:%Y-%m-%dT%H:%M:%S}".rjust(19, "0")
    found = bound(f"{text}.{digits}{sign}{hours:02}:{minutes:02}")
    whole = local.replace(tzinfo=UTC) - timedelta(minutes=offset)
    anchored = found + timedelta(microseconds=before)
    since_us = Fraction((anchored - whole) // timedelta(microseconds=1), 10**6)
    exact = Fraction(int(digits), 10 ** len(digits))
    assert (anchored < found) == (since_us < exact)


@given(st.text("0123456789-:.TtZz+ \u0661\n", max_size=35))
def test_any_text_is_a_bound_or_an_invalid_time(text: str) -> None:
    if not is_time(text):
        with pytest.raises(InvalidTime):
            bound(text)
        return
    try:
        bound(text)
    except InvalidTime as error:
        assert "out of range" in str(error)  # noqa: PT017
