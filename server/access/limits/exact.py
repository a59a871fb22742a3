"""Exact limits: one statement in PostgreSQL charges every budget of a request before its work.

The time is that of the database, so that all processes share one clock. A refused request charges
nothing; the process remembers how long a budget stays used up, and refuses more requests without
asking.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from ledger.bounded import BoundedCache
from ledger.storage import rate_clocks
from ledger.storage.database import Database
from server.access.limits.fast import PLACE_BYTES
from server.access.limits.gcra import MINUTE_S, SECOND_NS, Rate, whole
from server.access.limits.rules import LimitScope, RateLimited, Spending

MAX_REMEMBERED: Final = 10_000
_US: Final = 1_000
_S_US: Final = 1_000_000


class Budget(NamedTuple):
    """The rate of one key, or of all keys of an org; all of it at once, and then evenly."""

    scope: LimitScope
    spending: Spending
    who: str
    rate: Rate

    def charge(self, key: bytes) -> rate_clocks.Charge:
        """Return what one admission costs."""
        text = f"exact/{self.scope}/{self.spending.name}/{self.who}".encode()
        place = blake2b(text, digest_size=PLACE_BYTES, key=key).digest()
        return rate_clocks.Charge(
            place, -(-self.rate.interval_ns // _US), self.rate.window_s * _S_US
        )


def budgets_of(
    spending: Spending,
    key_id: str,
    org_id: int,
    per_key: int,
    per_org: int,
    window_s: int = MINUTE_S,
) -> list[Budget]:
    """Return the budgets of a request by an API key; 0: no limit."""
    both = ((LimitScope.KEY, key_id, per_key), (LimitScope.ORG, str(org_id), per_org))
    return [
        Budget(scope, spending, who, whole(count, window_s)) for scope, who, count in both if count
    ]


class ExactLimits:
    """Charges budgets; ``now_ns`` only says how long a refusal is remembered."""

    def __init__(
        self, database: Database, key: bytes, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._database = database
        self._key = key
        self._now_ns = now_ns
        self._refused: BoundedCache[tuple[bytes, int], int] = BoundedCache(MAX_REMEMBERED)

    async def admit(self, budgets: Sequence[Budget]) -> None:
        """Charge all budgets. Raises RateLimited, and then charges none; DatabaseUnavailable."""
        if not budgets:
            return
        charges = [budget.charge(self._key) for budget in budgets]
        now_ns = self._now_ns()
        for budget, charge in zip(budgets, charges, strict=True):
            left_ns = (self._refused.get((charge.place, budget.rate.count)) or 0) - now_ns
            if left_ns > 0:
                raise RateLimited(budget.scope, budget.spending, budget.rate, left_ns)
        ahead = await rate_clocks.charge(self._database, charges)
        if ahead is not None:
            self._refuse(budgets, charges, ahead)

    def _refuse(
        self,
        budgets: Sequence[Budget],
        charges: Sequence[rate_clocks.Charge],
        ahead: dict[bytes, int],
    ) -> None:
        """Raise RateLimited for the budget that is used up for longest."""
        waits = [
            max(1, ahead.get(charge.place, 0) - charge.most_us + charge.cost_us) * _US
            for charge in charges
        ]
        longest = max(waits)
        at = waits.index(longest)
        budget, rate = budgets[at], budgets[at].rate
        longest = min(longest, rate.window_s * SECOND_NS)
        self._refused.put((charges[at].place, rate.count), self._now_ns() + longest)
        raise RateLimited(budget.scope, budget.spending, rate, longest)
