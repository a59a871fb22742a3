"""Times that callers write: RFC 3339, and of ISO 8601 what is often sent in its place.

A date alone, a time without seconds and a time without an offset are taken too;
without an offset a time is UTC. A space may stand for the "T" (RFC 3339, section 5.6).
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from ledger.errors import InvalidTime

EXAMPLE: Final = "2026-01-31T12:00:00Z"
_TIME: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})"
    r"(?:[Tt ]([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d|60)(?:\.(\d+))?)?"
    r"([Zz]|([+-])([01]\d|2[0-3]):?([0-5]\d))?)?",
    re.ASCII,
)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


def is_time(text: str) -> bool:
    """Whether the text names a time; a leap second is one where a leap second can be."""
    match = _TIME.fullmatch(text)
    if match is None:
        return False
    try:
        date.fromisoformat(match[1])
    except ValueError:
        return False
    return match[4] != "60" or _may_be_leap(match)


def bound(text: str) -> datetime:
    """The first microsecond, in UTC, that is not before this time.

    Entries are anchored at whole microseconds, so "before the bound" and "at the
    bound or later" say of each of them what they say of the time itself, however
    many digits its fraction has. A leap second is after 23:59:59.999999 and before
    00:00:00. Raises InvalidTime.
    """
    match = _TIME.fullmatch(text)
    if match is None or not is_time(text):
        raise InvalidTime(f"must be an RFC 3339 time such as {EXAMPLE}")
    minute = datetime.fromisoformat(f"{match[1]}T{match[2] or '00'}:{match[3] or '00'}+00:00")
    try:
        minute -= _offset(match)
    except OverflowError:
        raise InvalidTime("is out of range: the years 1 to 9999 (UTC) are taken") from None
    if match[4] == "60":
        return _plus(minute, timedelta(minutes=1))
    fraction = match[5] or ""
    micros = int(f"{fraction[:6]:0<6}")
    if fraction[6:].strip("0"):
        micros += 1
    return _plus(minute, timedelta(seconds=int(match[4] or 0), microseconds=micros))


def _plus(moment: datetime, span: timedelta) -> datetime:
    """The moment after this span, at most the last one there is: no entry is as late."""
    try:
        return moment + span
    except OverflowError:
        return _LAST


def _offset(match: re.Match[str]) -> timedelta:
    if match[7] is None:
        return timedelta(0)
    ahead = timedelta(hours=int(match[8]), minutes=int(match[9]))
    return ahead if match[7] == "+" else -ahead


def _may_be_leap(match: re.Match[str]) -> bool:
    """Whether the minute is the last one of a month in UTC (RFC 3339, section 5.7)."""
    # The day alone decides, so a year of the same calendar stands in for the rim of all years.
    year = 2000 + int(match[1][:4]) % 400
    minute = datetime.fromisoformat(f"{year}{match[1][4:]}T{match[2]}:{match[3]}+00:00")
    minute -= _offset(match)
    days = calendar.monthrange(minute.year, minute.month)[1]
    return (minute.day, minute.hour, minute.minute) == (days, 23, 59)
