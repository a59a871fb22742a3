"""Logs by address what callers are refused: few lines, however many callers and refusals there are."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from ledger.bounded import BoundedCache
from ledger.core.lasting import Report
from server.addresses import ClientAddress

AGAIN_S: Final = 60.0
"""The time between two lines about one address and cause."""
MOST_LINES: Final = 20
"""Lines in this time, of all addresses."""
MAX_ADDRESSES: Final = 1_000


class _Refused:
    """The refusals of one address for one cause since the last line about them."""

    __slots__ = ("next_s", "times")

    def __init__(self) -> None:
        self.next_s = 0.0
        self.times = 0


class AddressLog:
    """The refusals of one process. Addresses of one IPv6 site (/64) count as one."""

    def __init__(self, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._event = event
        self._clock = clock
        self._refused: BoundedCache[tuple[str, str], _Refused] = BoundedCache(MAX_ADDRESSES)
        self._ends_s = 0.0
        self._lines = 0
        self._unlogged = 0

    def note(self, report: Report, address: ClientAddress, cause: str, **fields: Any) -> None:
        """Count a refusal, and log it unless the address was logged a moment ago.

        A line says how often the address was refused since the last one, and how many refusals of
        other addresses were left out because there were too many addresses.
        """
        now = self._clock()
        key = address.group, cause
        refused = self._refused.get(key)
        if refused is None:
            refused = _Refused()
            self._refused.put(key, refused)
        refused.times += 1
        if now < refused.next_s:
            return
        if now >= self._ends_s:
            self._ends_s, self._lines = now + AGAIN_S, 0
        if self._lines >= MOST_LINES:
            self._unlogged += 1
            return
        self._lines += 1
        if self._unlogged:
            fields = {**fields, "others_left_out": self._unlogged}
        report(self._event, address=str(address), cause=cause, times=refused.times, **fields)
        refused.next_s, refused.times, self._unlogged = now + AGAIN_S, 0, 0
