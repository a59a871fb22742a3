"""The rate limits of one process: which hold for a caller, and whether it keeps them.

A caller is limited after everything else that may refuse it was asked, so that nothing is used by a
request that is refused for its key, its role or its address. Callers without a valid key are limited
first, before anything is looked up for them. A platform key is never limited: the operator must
always be able to act.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from ledger.core.register import Register
from ledger.storage.database import Database
from server import metrics
from server.access.limits.exact import Budget, ExactLimits, budgets_of
from server.access.limits.fast import FastLimit, FastLimits
from server.access.limits.gcra import HOUR_S, MINUTE_S
from server.access.limits.known import KnownLimits, OrgRates
from server.access.limits.rules import LimitScope, RateLimited, Spending
from server.access.limits.settings import LimitSettings
from server.access.principal import Principal
from server.addresses import Address, ClientAddress, Network, contains

MAX_ADDRESSES: Final = 10_000
ADDRESSES: Final = "addresses"
"""The owner of the clocks of addresses: a flood from many of them forgets no other clock."""


class RateLimits:
    """Admits callers within their rates. ``trusted`` are the proxies, which are not limited.

    Who is refused is noted by the caller of these methods, in one place (``note_refusal`` of
    :mod:`server.http.caller`): in the metric, for the trail, and for the threat scores.
    """

    def __init__(
        self,
        database: Database,
        register: Register,
        settings: LimitSettings,
        trusted: Sequence[Network] = (),
    ) -> None:
        self.settings = settings
        self.known = KnownLimits(database, register, settings)
        self.fast = FastLimits(database, register.row_key)
        self.exact = ExactLimits(database, register.row_key)
        total = settings.installation_per_minute
        self._all = FastLimit(LimitScope.INSTALLATION, Spending.OTHER, "", total, "")

        def is_free(ip: Address) -> bool:
            # A peer on a Unix socket has no address: whoever may open it is trusted.
            return ip.is_loopback or ip.is_unspecified or contains(trusted, ip)

        self._is_free = lru_cache(MAX_ADDRESSES)(is_free)

    def require_stranger(self, address: ClientAddress) -> None:
        """Raise RateLimited if callers without a valid key sent too much from an address; use nothing."""
        self.fast.require(self._of_stranger(address))

    def admit_stranger(self, address: ClientAddress) -> None:
        """Count a request without a valid key. Raises RateLimited."""
        self.fast.admit(self._of_stranger(address))

    async def admit(self, principal: Principal, spending: Spending) -> None:
        """Count a request of a valid key. Raises RateLimited, and then uses nothing.

        Raises RowNotAuthentic, RegisterBehind and DatabaseUnavailable where it is not known what the
        org may do.
        """
        if principal.org_id is None:
            return
        if spending <= Spending.VERIFY:
            org_id = principal.org_id
            rates = self.known.known(org_id) or await self.known.load(org_id)
            if spending is not Spending.VERIFY:
                self.fast.admit(self._of_key(rates, principal, spending))
                return
        else:
            rates = self.known.defaults
        budgets = self._budgets(rates, principal, spending)
        fast = self._of_all()
        self.fast.require(fast)
        await self.exact.admit(budgets)
        self.fast.use(fast)

    def _of_all(self) -> list[FastLimit]:
        return [self._all] if self._all.per_minute else []

    def _of_stranger(self, address: ClientAddress) -> list[FastLimit]:
        limits, count = self._of_all(), self.settings.address_per_minute
        if count and not self._is_free(address.ip):
            scope, kind = LimitScope.ADDRESS, Spending.OTHER
            limits.insert(0, FastLimit(scope, kind, address.group, count, ADDRESSES))
        return limits

    def _of_key(self, rates: OrgRates, principal: Principal, spending: Spending) -> list[FastLimit]:
        limits, org_id = self._of_all(), principal.org_id
        if count := rates.org[spending]:
            limits.insert(0, FastLimit(LimitScope.ORG, spending, org_id, count, org_id))
        if count := rates.key[spending]:
            limits.insert(0, FastLimit(LimitScope.KEY, spending, principal.key_id, count, org_id))
        return limits

    def _budgets(self, rates: OrgRates, principal: Principal, spending: Spending) -> list[Budget]:
        """Return the exact budgets of a request."""
        assert principal.org_id is not None, "a platform key has none"
        if spending is Spending.VERIFY:
            per_key, per_org, window_s = rates.key.verify, rates.org.verify, MINUTE_S
        elif spending is Spending.KEYS:
            per_key, per_org, window_s = 0, self.settings.org_new_keys_per_hour, HOUR_S
        else:
            return []
        return budgets_of(spending, principal.key_id, principal.org_id, per_key, per_org, window_s)


def count_refusal(error: RateLimited) -> None:
    """Count a refused request."""
    metrics.RATE_LIMITED.labels(error.scope, error.spending.name.lower()).inc()
