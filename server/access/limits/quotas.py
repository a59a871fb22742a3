"""The daily quotas of orgs: counted in each process from parts that it took in advance."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any, Final

from ledger.bounded import BoundedCache
from ledger.core.org import NO_QUOTA, OrgFacts
from ledger.core.sequencer import Appended
from ledger.errors import AppendRefused, DatabaseUnavailable, ProblemType
from ledger.storage import quota_uses
from ledger.storage.asking import Work, asking
from ledger.storage.database import Database
from ledger.storage.quota_uses import Amount, QuotaPart

MAX_METERS: Final = 20_000


class QuotaExceeded(AppendRefused):
    """The org has used its quota of the day; ``retry_after`` is in seconds, until the day ends."""

    problem_type = ProblemType(
        "quota-exceeded",
        429,
        "The org's quota of the day is used",
        "this org may append 1,000 entries and 10,000,000 bytes a day (UTC), and this request would "
        "exceed it: retry tomorrow, or ask the platform's operator for a larger quota",
    )

    def __init__(self, org: OrgFacts, ends_s: float) -> None:
        limits = zip(("entries", "bytes"), org.quota, strict=True)
        may = " and ".join(f"{most:,} {name}" for name, most in limits if most)
        super().__init__(
            f"this org may append {may} a day (UTC), and this request would exceed it: retry tomorrow, "
            "or ask the platform's operator for a larger quota"
        )
        self.retry_after = max(1, math.ceil(ends_s))


class _Meter:
    """The rest of the parts of a quota that this process took for one org."""

    def __init__(self) -> None:
        self.quota = Amount()
        self.ahead = Amount()
        self.owed = Amount()
        self.used_up = False
        self.ends_s = 0.0
        self.taking = asyncio.Lock()

    def begin(self, quota: Amount) -> None:
        """Forget the parts of another day, or of another quota."""
        if quota != self.quota or time.monotonic() >= self.ends_s:
            self.quota, self.ahead, self.used_up = quota, Amount(), False

    def use(self, asked: Amount) -> bool:
        """Use some of what was taken; False if there is too little."""
        needed = self.owed.plus(asked)
        left = [have - need for have, need in zip(self.ahead, needed, strict=True)]
        if any(most and rest < 0 for most, rest in zip(self.quota, left, strict=True)):
            return False
        self.ahead, self.owed = Amount(*(max(0, rest) for rest in left)), Amount()
        return True

    def settle(self, amount: Amount) -> Amount:
        """Use what was taken for an amount as far as it goes; return the rest of the amount."""
        pairs = list(zip(self.ahead, amount, strict=True))
        self.ahead = Amount(*(max(0, have - need) for have, need in pairs))
        return Amount(*(max(0, need - have) for have, need in pairs))

    def got(self, part: QuotaPart) -> None:
        """Keep a part that was taken."""
        self.ends_s = time.monotonic() + part.ends_s
        self.used_up = part.used_up
        if part.ahead is not None:
            self.ahead = self.ahead.plus(part.ahead)

    @property
    def spent(self) -> bool:
        """Whether nothing is left, here and in the database."""
        limited = zip(self.quota, self.ahead, strict=True)
        return self.used_up and any(most and not have for most, have in limited)


class Quotas:
    """Counts what orgs append. Its methods do nothing for an org without a quota.

    ``row_key`` authenticates the rows that all processes share.
    """

    def __init__(self, database: Database, row_key: bytes) -> None:
        self._database = database
        self._row_key = row_key
        self._meters: BoundedCache[int, _Meter] = BoundedCache(MAX_METERS)

    def charge(self, org: OrgFacts, size_bytes: int) -> None:
        """Count the bytes of a body that was refused; the org's next request settles them."""
        if org.quota is not NO_QUOTA:
            meter = self._meter(org)
            meter.owed = meter.owed.plus(Amount(0, size_bytes))

    async def require(self, org: OrgFacts) -> None:
        """Raise QuotaExceeded if the org has used its quota, before a body is read."""
        if org.quota is not NO_QUOTA:
            await self._take(org, Amount())

    async def take(self, org: OrgFacts, entries: int, size_bytes: int) -> None:
        """Count a request that will be appended. Raises QuotaExceeded, DatabaseUnavailable."""
        if org.quota is not NO_QUOTA:
            await self._take(org, Amount(entries, size_bytes))

    async def counted(
        self, org: OrgFacts, entries: int, size_bytes: int, append: Coroutine[Any, Any, Appended]
    ) -> Appended:
        """Count a request and append it; one that wrote nothing new counts its bytes alone.

        Raises QuotaExceeded before anything is written, DatabaseUnavailable, and what ``append``
        raises.
        """
        if org.quota is NO_QUOTA:
            return await append
        try:
            await self.take(org, entries, size_bytes)
        except BaseException:
            append.close()
            raise
        try:
            appended = await append
        except (AppendRefused, DatabaseUnavailable):
            self._give_back(org, entries)
            raise
        if appended.replayed:
            self._give_back(org, entries)
        return appended

    def _give_back(self, org: OrgFacts, entries: int) -> None:
        meter = self._meter(org)
        meter.ahead = meter.ahead.plus(Amount(entries, 0))

    def _meter(self, org: OrgFacts) -> _Meter:
        meter = self._meters.get(org.id)
        if meter is None:
            meter = _Meter()
            self._meters.put(org.id, meter)
        meter.begin(Amount(*org.quota))
        return meter

    async def _take(self, org: OrgFacts, asked: Amount) -> None:
        meter = self._meter(org)
        if meter.spent:
            raise QuotaExceeded(org, meter.ends_s - time.monotonic())
        if meter.use(asked):
            return
        async with meter.taking:  # others of this org use what the first of them takes
            meter.begin(Amount(*org.quota))
            if not meter.use(asked):
                await self._take_part(org, meter, asked)

    async def _take_part(self, org: OrgFacts, meter: _Meter, asked: Amount) -> None:
        """Take what is asked for, and a part in advance, from what all processes share."""
        owed, meter.owed = meter.settle(meter.owed), Amount()
        rest = meter.settle(asked)
        settled = Amount(asked.entries - rest.entries, asked.bytes - rest.bytes)
        try:
            with asking(Work.VITAL, org.id):
                part = await quota_uses.take(
                    self._database, self._row_key, org.id, meter.quota, owed, rest
                )
        except BaseException:
            meter.ahead, meter.owed = meter.ahead.plus(settled), meter.owed.plus(owed)
            raise
        meter.got(part)
        if part.ahead is None:
            meter.ahead = meter.ahead.plus(settled)
            raise QuotaExceeded(org, part.ends_s)
