"""Fast limits: counted in each process, and told to the others once a second.

A request costs a look at a few clocks in memory. Once a second one statement adds what this process
admitted to a table, and brings back what all have used. Between two of them a process knows nothing
of the others, so ``n`` processes together admit at most ``(n - 1) * (burst + one second of the
limit)`` more than one would; the burst is what a limit admits in one second. While the database is
away each process counts alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import structlog

from ledger.bounded import BoundedCache
from ledger.core.lasting import GRACE_S, Lasting
from ledger.errors import QueueFull, StorageError
from ledger.storage import rate_clocks
from ledger.storage.database import Database
from server import metrics
from server.access.limits.gcra import SECOND_NS, Rate, moved, steady, wait_ns
from server.access.limits.rules import LimitScope, RateLimited, Spending

log = structlog.get_logger("quire")

MAX_CLOCKS: Final = 200_000
"""Keys, orgs and addresses whose use is remembered; of more, the least recently used are forgotten."""
MAX_RATES: Final = 10_000
MAX_TOLD: Final = 5_000
"""Clocks of keys and orgs, and as many of addresses, that are told at once; others wait."""
TELL_S: Final = 1.0
FORGET_S: Final = 60.0
PLACE_BYTES: Final = 16
_US: Final = 1_000


class FastLimit(NamedTuple):
    """One limit that a request must keep. ``owner`` is whose clocks give way if there are too many."""

    scope: LimitScope
    spending: Spending
    who: Hashable
    per_minute: int
    owner: Hashable


class _UseClock:
    """The use of one limit. ``pending_ns`` is not told yet; it was used from ``since_ns`` on."""

    __slots__ = ("is_of_address", "pending_ns", "place", "rate", "since_ns", "tat_ns")

    def __init__(self, place: bytes, rate: Rate, *, is_of_address: bool) -> None:
        self.place = place
        self.rate = rate
        self.is_of_address = is_of_address
        self.tat_ns = self.pending_ns = self.since_ns = 0

    def admit(self, now_ns: int) -> None:
        """Use one interval."""
        self.tat_ns = moved(self.tat_ns, now_ns, self.rate)
        if not self.pending_ns:
            self.since_ns = now_ns
        self.pending_ns += self.rate.interval_ns

    def take(self, now_ns: int) -> rate_clocks.UsedTime:
        """Return what was not told yet, and take it as told."""
        age_us = (now_ns - self.since_ns) // _US if self.pending_ns else 0
        used = rate_clocks.UsedTime(self.place, age_us, -(-self.pending_ns // _US))
        self.pending_ns = 0
        return used

    def give_back(self, used: rate_clocks.UsedTime, now_ns: int) -> None:
        """Take what could not be told as not told."""
        if used.spent_us:
            self.since_ns = now_ns - used.age_us * _US
            self.pending_ns += used.spent_us * _US

    def learn(self, ahead_us: int, asked_ns: int) -> None:
        """Move the clock to what all have used: the TAT was so far ahead when it was asked for."""
        self.tat_ns = max(self.tat_ns, asked_ns + ahead_us * _US + self.pending_ns)


class FastLimits:
    """The clocks of one process. ``now_ns`` is a clock that never goes back."""

    def __init__(
        self, database: Database, key: bytes, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._database = database
        self._key = key
        self._now_ns = now_ns
        self._clocks: BoundedCache[Hashable, _UseClock] = BoundedCache(MAX_CLOCKS)
        self._rates: BoundedCache[int, Rate] = BoundedCache(MAX_RATES)
        self._touched: dict[bool, dict[_UseClock, None]] = {True: {}, False: {}}

    def admit(self, limits: Iterable[FastLimit]) -> None:
        """Use all of these limits. Raises RateLimited, and then uses none."""
        now_ns = self._now_ns()
        for clock in self._admitting(limits, now_ns):
            clock.admit(now_ns)

    def require(self, limits: Iterable[FastLimit]) -> None:
        """Raise RateLimited if one of these limits is used up; use none."""
        self._admitting(limits, self._now_ns())

    def use(self, limits: Iterable[FastLimit]) -> None:
        """Use limits for a request that was let in before."""
        now_ns = self._now_ns()
        for limit in limits:
            self._clock(limit).admit(now_ns)

    def _admitting(self, limits: Iterable[FastLimit], now_ns: int) -> list[_UseClock]:
        clocks = []
        for limit in limits:
            clock = self._clock(limit)
            wait = wait_ns(clock.tat_ns, now_ns, clock.rate)
            if wait:
                raise RateLimited(limit.scope, limit.spending, clock.rate, wait)
            clocks.append(clock)
        return clocks

    def _clock(self, limit: FastLimit) -> _UseClock:
        # With the limit itself: a changed limit holds at once, whatever was used of the earlier one.
        name = limit[:4]
        clock = self._clocks.get(name, limit.owner)
        if clock is None:
            rate, of_address = self._rate(limit.per_minute), limit.scope is LimitScope.ADDRESS
            clock = _UseClock(self._place(limit), rate, is_of_address=of_address)
            self._clocks.put(name, clock, limit.owner)
        self._touched[clock.is_of_address][clock] = None
        return clock

    def _rate(self, per_minute: int) -> Rate:
        rate = self._rates.get(per_minute)
        if rate is None:
            rate = steady(per_minute)
            self._rates.put(per_minute, rate)
        return rate

    def _place(self, limit: FastLimit) -> bytes:
        text = f"{limit.scope}/{limit.spending.name}/{limit.who}/{limit.per_minute}".encode()
        return blake2b(text, digest_size=PLACE_BYTES, key=self._key).digest()

    async def tell(self) -> None:
        """Tell the others what was used, and learn what they used. Raises StorageError, QueueFull."""
        told = [clock for touched in self._touched.values() for clock in _taken(touched)]
        if not told:
            return
        asked_ns = self._now_ns()
        used = [clock.take(asked_ns) for clock in told]
        try:
            ahead = await rate_clocks.tell(self._database, used)
        except BaseException:
            for clock, its in zip(told, used, strict=True):
                clock.give_back(its, asked_ns)
                self._touched[clock.is_of_address][clock] = None
            raise
        for clock in told:
            clock.learn(ahead[clock.place], asked_ns)

    async def keep_telling(self) -> None:
        """Tell once a second; runs until cancelled."""
        trouble = Lasting(
            "rate limits are counted by each process alone",
            "rate limits are counted together again",
            grace_s=GRACE_S,
        )
        told_ns = forgot_ns = self._now_ns()
        while True:
            await asyncio.sleep(TELL_S)
            try:
                await self.tell()
                before_ns, told_ns = told_ns, self._now_ns()
                metrics.RATES_TOLD.observe((told_ns - before_ns) / SECOND_NS)
                if told_ns - forgot_ns > FORGET_S * SECOND_NS:
                    forgot_ns = told_ns
                    await rate_clocks.forget(self._database)
            except (StorageError, QueueFull) as error:
                trouble.failed(log.warning, str(error), early=log.info)
            else:
                trouble.fine()


def _taken(touched: dict[_UseClock, None]) -> Sequence[_UseClock]:
    """Take the clocks that were touched longest ago."""
    some = [clock for clock, _ in zip(touched, range(MAX_TOLD), strict=False)]
    for clock in some:
        del touched[clock]
    return some
