"""The period of a check of QWED's audit log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ledger.entry import rfc3339
from ledger.errors import InvalidTime
from ledger.times import bound
from server.http.problems import BadRequest

_DATE_CHARS = len("2026-01-31")
_MICROSECOND = timedelta(microseconds=1)


class Period(NamedTuple):
    """Both ends are included; None: without an end."""

    start: datetime | None
    end: datetime | None

    @classmethod
    def of(cls, start: str | None, end: str | None) -> Period:
        """Read a period; an end that is a date alone includes that day. Raises BadRequest."""
        first, last = _moment("start", start), _moment("end", end)
        if last is not None and end is not None and len(end) == _DATE_CHARS:
            last += timedelta(days=1) - _MICROSECOND
        if first is not None and last is not None and last < first:
            raise BadRequest("end must not be before start")
        return cls(first, last)

    def has(self, moment: str) -> bool:
        """Return whether a time (RFC 3339, UTC) is in the period."""
        at = datetime.fromisoformat(moment)
        return (self.start is None or self.start <= at) and (self.end is None or at <= self.end)

    @property
    def first(self) -> str | None:
        """The first time of the period, RFC 3339."""
        return None if self.start is None else rfc3339(self.start)

    @property
    def last(self) -> str | None:
        """The last time of the period, RFC 3339."""
        return None if self.end is None else rfc3339(self.end)


def _moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    if "T" in text or "t" in text:
        text = text.replace(" ", "+")  # a "+" that was not percent-encoded arrives as a space
    try:
        return min(bound(text), datetime(9999, 12, 30, tzinfo=UTC))
    except InvalidTime as error:
        raise BadRequest(f"{name} {error}") from None
