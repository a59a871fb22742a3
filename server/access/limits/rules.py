"""The kinds of rates that are limited, for whom, and how a refusal is told."""

from __future__ import annotations

import math
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

from ledger.errors import QueueFull, QuireError
from server.access.limits.gcra import SECOND_NS, Rate


class Spending(IntEnum):
    """The kind of use that a request is: the first three have limits per key and org."""

    APPEND = 0
    """A request that appends, whatever the number of its events."""
    READ = 1
    """A request that changes nothing."""
    VERIFY = 2
    """A verification of a trail or an entry."""
    KEYS = 3
    """An API key that is made or rotated."""
    OTHER = 4
    """Everything else; only the limit of the whole installation counts it."""


class LimitScope(StrEnum):
    """Whose budget is used up."""

    KEY = "key"
    ORG = "org"
    ADDRESS = "address"
    INSTALLATION = "installation"


SCOPE_WORDS: Final = {
    LimitScope.KEY: "API key rate limit exceeded: this API key",
    LimitScope.ORG: "Global rate limit exceeded: the API keys of this org together",
    LimitScope.ADDRESS: "Address rate limit exceeded: callers without a valid API key from this address",
    LimitScope.INSTALLATION: "Server rate limit exceeded: all callers together",
}
_DOES: Final = {
    Spending.APPEND: "send {count:,} requests that append",
    Spending.READ: "send {count:,} requests that read",
    Spending.VERIFY: "start {count:,} verifications",
    Spending.KEYS: "make or rotate {count:,} API keys",
    Spending.OTHER: "send {count:,} requests",
}
_WINDOWS: Final = {60: "a minute", 3_600: "an hour"}


class PerMinute(NamedTuple):
    """Requests a minute by :class:`Spending`; 0: no limit."""

    append: int = 0
    read: int = 0
    verify: int = 0


class RateLimited(QuireError):
    """A budget is used up; nothing was done, and no other budget was used. Wait ``wait_ns``."""

    problem_type = QueueFull.problem_type
    """The same problem as of a full queue, which has no ``scope``: for both, wait and send again."""

    def __init__(self, scope: LimitScope, spending: Spending, rate: Rate, wait_ns: int) -> None:
        self.retry_after = max(1, math.ceil(wait_ns / SECOND_NS))
        does = _DOES[spending].format(count=rate.count)
        window = _WINDOWS.get(rate.window_s, f"in {rate.window_s} s")
        super().__init__(f"{SCOPE_WORDS[scope]} may {does} {window}; retry in {self.retry_after} s")
        self.scope = scope
        self.spending = spending
        self.rate = rate

    @property
    def headers(self) -> dict[str, str]:
        """The fields RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers)."""
        policy = f'"{self.scope}-{self.spending.name.lower()}"'
        return {
            "RateLimit-Policy": f"{policy};q={self.rate.count};w={self.rate.window_s}",
            "RateLimit": f"{policy};r=0;t={self.retry_after}",
        }
