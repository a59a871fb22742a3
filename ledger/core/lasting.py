"""Lasting conditions: logged once, then at growing intervals, then once when they end.

The end is logged at the level of the last report, so a reader of that level sees both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakSet

from ledger.bounded import BoundedCache

FIRST_S: Final = 60.0
"""The interval from the first report to the second; each later interval is twice as long."""
LONGEST_S: Final = 3_600.0
QUIET_S: Final = 5.0
"""How long a condition must be absent before it has ended; a shorter absence does not end it."""
GRACE_S: Final = 10.0
"""How long a condition may last before it is reported: a database restart takes seconds."""
SILENT_S: Final = 60.0
"""How long a condition must not be met before it has ended, if only requests can meet it."""
MAX_KEYS: Final = 1_000

Report = Callable[..., Any]
"""A method of a logger: ``report(event, **fields)``."""


class Lasting:
    """One condition, logged as ``event``, and as ``over`` when it ends.

    Call :meth:`failed` each time the condition is met, :meth:`fine` each time it is not.
    ``grace_s``: within this time the condition is logged once, by ``early`` only.
    ``silent_s``: the condition ends when it was not met for this time (see :func:`end_silent`);
    for conditions whose absence no caller notices.
    """

    def __init__(
        self,
        event: str,
        over: str,
        *,
        quiet_s: float = QUIET_S,
        grace_s: float = 0,
        silent_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._event = event
        self._over = over
        self._quiet_s = quiet_s
        self._grace_s = grace_s
        self._silent_s = silent_s
        self._clock = clock
        self._lasts = False
        self._report: Report | None = None
        self._fields: dict[str, Any] = {}
        self._since = self._last = self._next = 0.0
        self._interval = FIRST_S
        self._times = 0
        if silent_s is not None:
            _SILENT.add(self)

    @property
    def lasts(self) -> bool:
        """True if the condition was met and has not ended."""
        return self._lasts

    def failed(
        self, report: Report, reason: str, *, early: Report | None = None, **fields: Any
    ) -> None:
        """The condition is met: log it if it is new or due again, with the newest reason."""
        now = self._clock()
        if not self._lasts:
            self._lasts = True
            self._since, self._times, self._interval = now, 0, FIRST_S
            self._next = now + self._grace_s
            self._report = early if self._grace_s else None
            if self._report is not None:
                self._report(self._event, reason=reason, **fields)
        self._fields = fields
        self._last = now
        self._times += 1
        if now < self._next:
            return
        self._report = report
        self._next = now + self._interval
        self._interval = min(self._interval * 2, LONGEST_S)
        if self._times > 1:
            fields = {**fields, "times": self._times, "for_seconds": round(now - self._since, 1)}
        report(self._event, reason=reason, **fields)

    def fine(self) -> None:
        """The condition is not met: log its end if it was not met for ``quiet_s``."""
        if self._lasts and self._clock() - self._last >= self._quiet_s:
            self._end()

    def silent(self) -> None:
        """Log the end of the condition if it was not met for ``silent_s``."""
        silent_s = self._silent_s
        if self._lasts and silent_s is not None and self._clock() - self._last >= silent_s:
            self._end()

    def _end(self) -> None:
        report, self._report, self._lasts = self._report, None, False
        if report is not None:
            lasted_s = round(self._last - self._since, 1)
            fields = {name: value for name, value in self._fields.items() if name != "exc_info"}
            report(self._over, lasted_seconds=lasted_s, times=self._times, **fields)


class LastingByKey:
    """One condition that each of many keys may meet; of more than MAX_KEYS the one met longest ago is dropped."""

    def __init__(self, event: str, over: str, **options: Any) -> None:
        self._event = event
        self._over = over
        self._options = options
        self._by_key: BoundedCache[Any, Lasting] = BoundedCache(MAX_KEYS)

    def failed(self, key: Any, report: Report, reason: str, **fields: Any) -> None:
        """The condition is met for this key."""
        found = self._by_key.get(key)
        if found is None:
            found = Lasting(self._event, self._over, **self._options)
            self._by_key.put(key, found)
        found.failed(report, reason, **fields)

    def fine(self, key: Any) -> None:
        """The condition is not met for this key."""
        found = self._by_key.get(key)
        if found is not None:
            found.fine()
            if not found.lasts:
                self._by_key.pop(key)

    def all_fine(self) -> None:
        """Log the end of the condition for every key that did not meet it lately."""
        for key in list(self._by_key):
            self.fine(key)


def plain(log: Callable[..., Any]) -> Report:
    """Adapt a method of the standard library's loggers, which takes no fields, to a report."""

    def report(event: str, **fields: Any) -> None:
        log("%s (%s)", event, ", ".join(f"{name}: {value}" for name, value in fields.items()))

    return report


_SILENT: WeakSet[Lasting] = WeakSet()


def end_silent() -> None:
    """Log the end of conditions that were not met for their ``silent_s``; call it now and then."""
    for one in list(_SILENT):
        one.silent()
