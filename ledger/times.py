"""Times that callers write: RFC 3339, and the forms of ISO 8601 that are often sent instead.

A date alone, a time without seconds and a time without an offset are accepted
too; a time without an offset is UTC. A space may replace the "T" (RFC 3339,
section 5.6).
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
    """Return whether the text is a time; a leap second must be one that can exist."""
    match = _TIME.fullmatch(text)
    if match is None:
        return False
    try:
        date.fromisoformat(match[1])
    except ValueError:
        return False
    return match[4] != "60" or _may_be_leap(match)


def bound(text: str) -> datetime:
    """Return the first microsecond, in UTC, that is not before this time.

    Entries are anchored at whole microseconds, so comparing an entry with this
    bound gives the same result as comparing it with the time itself, whatever the
    digits of its fraction. A leap second lies after 23:59:59.999999 and before
    00:00:00. Raises InvalidTime.
    """
    match = _TIME.fullmatch(text)
    if match is None or not is_time(text):
        raise InvalidTime(f"must be an RFC 3339 time such as {EXAMPLE}")
    minute = datetime.fromisoformat(f"{match[1]}T{match[2] or '00'}:{match[3] or '00'}+00:00")
    try:
        minute -= _offset(match)
    except OverflowError:
        raise InvalidTime("is out of range: the year must be 1 to 9999 (UTC)") from None
    if match[4] == "60":
        return _plus(minute, timedelta(minutes=1))
    fraction = match[5] or ""
    micros = int(f"{fraction[:6]:0<6}")
    if fraction[6:].strip("0"):
        micros += 1
    return _plus(minute, timedelta(seconds=int(match[4] or 0), microseconds=micros))


def _plus(moment: datetime, span: timedelta) -> datetime:
    """Add the span, but stop at the last time that Python has: no entry is as late."""
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
    """Return whether the minute is the last of a month in UTC (RFC 3339, section 5.7)."""
    # Only the day matters. A year with the same calendar avoids overflows at the first and last.
    year = 2000 + int(match[1][:4]) % 400
    minute = datetime.fromisoformat(f"{year}{match[1][4:]}T{match[2]}:{match[3]}+00:00")
    minute -= _offset(match)
    days = calendar.monthrange(minute.year, minute.month)[1]
    return (minute.day, minute.hour, minute.minute) == (days, 23, 59)
