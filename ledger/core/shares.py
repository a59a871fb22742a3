"""Bounds on what orgs hold at a time: a total for all orgs together, and a share for each org."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from ledger.errors import QueueFull


class OrgShares:
    """Places or bytes that orgs hold: at most ``total`` in all, at most ``of_org`` for one org.

    An org that holds nothing is bounded by ``total`` alone, so that one piece of any size has
    room. ``full`` makes the error: its argument is True if ``total`` is reached, False if
    the org's share is. ``total`` None: only the shares are bounded.
    """

    def __init__(
        self, *, total: int | None, of_org: int, full: Callable[[bool], QueueFull]
    ) -> None:
        self.total = total
        self.of_org = of_org
        self.held = 0
        """The amount that all orgs hold now."""
        self._full = full
        self._by_org: Counter[Hashable] = Counter()

    def acquire(self, org_id: Hashable, amount: int = 1) -> None:
        """Take an amount for an org, until :meth:`release`. Raises QueueFull."""
        held = self._by_org[org_id]
        if held and held + amount > self.of_org:
            raise self._full(False)
        if self.total is not None and self.held + amount > self.total:
            raise self._full(True)
        self._by_org[org_id] = held + amount
        self.held += amount

    def release(self, org_id: Hashable, amount: int = 1) -> None:
        """Release an amount of an org; an org that holds nothing is dropped from the table."""
        self.held -= amount
        self._by_org[org_id] -= amount
        if not self._by_org[org_id]:
            del self._by_org[org_id]

    @contextmanager
    def holding(self, org_id: Hashable, amount: int = 1) -> Iterator[None]:
        """Hold an amount for an org while the block runs. Raises QueueFull."""
        self.acquire(org_id, amount)
        try:
            yield
        finally:
            self.release(org_id, amount)
