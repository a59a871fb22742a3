"""The shares of a bounded resource: the bound of each org, and the bound of all together."""

from __future__ import annotations

import contextlib

import pytest

from ledger.core.shares import OrgShares
from ledger.errors import QueueFull


def full(everyone: bool) -> QueueFull:
    return QueueFull("full", everyone=everyone)


def refused(shares: OrgShares, org_id: int, amount: int = 1) -> bool:
    """Whether the refusal names the bound of all orgs; fails if the org gets its share."""
    with pytest.raises(QueueFull) as error:
        shares.acquire(org_id, amount)
    return error.value.everyone


def test_an_org_has_its_share_and_all_orgs_have_the_whole() -> None:
    shares = OrgShares(total=5, of_org=2, full=full)
    for org_id in (1, 1, 2, 2, 3):
        shares.acquire(org_id)
    assert refused(shares, 1) is False  # its own bound first, although the total is reached
    assert refused(shares, 3) is True
    shares.release(1)
    shares.acquire(3)
    assert shares.held == 5


def test_an_org_that_holds_nothing_gets_one_piece_of_any_size() -> None:
    shares = OrgShares(total=100, of_org=10, full=full)
    with shares.holding(1, 90):
        assert refused(shares, 1) is False
        assert refused(shares, 2, 11) is True
        shares.acquire(2, 10)
    assert shares.held == 10


def test_what_was_refused_or_failed_holds_nothing() -> None:
    shares = OrgShares(total=None, of_org=1, full=full)
    with contextlib.suppress(ValueError), shares.holding(1):
        assert refused(shares, 1) is False
        raise ValueError("mine")
    assert shares.held == 0
    assert not shares._by_org, "no org is kept that holds nothing"
    shares.acquire(1)
