"""Conditions that last: reported once, then at growing intervals, then once when they end.

Whoever sees the beginning sees the end: both are logged at the same level.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakSet

FIRST_S: Final = 60.0
"""From the first report to the second; each interval is twice the one before."""
LONGEST_S: Final = 3_600.0
QUIET_S: Final = 5.0
"""For how long a condition must be gone to have ended: one that comes and goes is one."""
GRACE_S: Final = 10.0
"""What passes sooner is no trouble: a database that is restarted is away for seconds."""
SILENT_S: Final = 60.0
"""The same for conditions that only requests meet, which nobody sees end."""
MAX_KEYS: Final = 1_000

Report = Callable[..., Any]
"""A method of a logger: ``report(event, **fields)``."""


class Lasting:
    """One condition, logged as ``event``, and as ``over`` when it ends. Call :meth:`failed` each time it is met, :meth:`fine` when it is not.

    ``grace_s``: for so long it is no trouble yet, and only ``early`` is told, once.
    ``silent_s``: it ends by itself when it was not met for so long (see :func:`end_silent`),
    for conditions that only those who meet them notice.
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
        """Whether it was met and has not ended."""
        return self._lasts

    def failed(
        self, report: Report, reason: str, *, early: Report | None = None, **fields: Any
    ) -> None:
        """It is met: logged when it is new, and when it is due again, with the newest reason."""
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
        """It is not met: the end is logged once that lasts."""
        if self._lasts and self._clock() - self._last >= self._quiet_s:
            self._end()

    def silent(self) -> None:
        """Nobody says that it is met: it ends when that lasts."""
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
    """One condition of many things, each of which may meet it; the oldest are forgotten."""

    def __init__(self, event: str, over: str, **options: Any) -> None:
        self._event = event
        self._over = over
        self._options = options
        self._by_key: OrderedDict[Any, Lasting] = OrderedDict()

    def failed(self, key: Any, report: Report, reason: str, **fields: Any) -> None:
        """This one meets it."""
        found = self._by_key.get(key)
        if found is None:
            if len(self._by_key) >= MAX_KEYS:
                self._by_key.popitem(last=False)
            found = self._by_key[key] = Lasting(self._event, self._over, **self._options)
        found.failed(report, reason, **fields)

    def fine(self, key: Any) -> None:
        """This one does not."""
        found = self._by_key.get(key)
        if found is not None:
            found.fine()
            if not found.lasts:
                del self._by_key[key]

    def all_fine(self) -> None:
        """All that did not meet it lately do not meet it any more."""
        for key in list(self._by_key):
            self.fine(key)


def plain(log: Callable[..., Any]) -> Report:
    """A method of the standard library's loggers, which takes no fields, as a report."""

    def report(event: str, **fields: Any) -> None:
        log("%s (%s)", event, ", ".join(f"{name}: {value}" for name, value in fields.items()))

    return report


_SILENT: WeakSet[Lasting] = WeakSet()


def end_silent() -> None:
    """Report the end of conditions that nobody has met for long; to be called now and then."""
    for one in list(_SILENT):
        one.silent()
