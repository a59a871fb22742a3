"""Signed trees under verification: what is right is called so, and every tampering by its name."""

from ledger.core.verification.faults import CHECKS
from tests.verification.database import COUNT
from tests.verification.signed import Signed


async def test_a_signed_trail(signed: Signed) -> None:
    for trust in (signed.trust(), None):
        result = await signed.verify(trust)
        assert (result.valid, result.total_entries) == (True, COUNT)
        checked = {name for name in CHECKS if getattr(result.checks, name) is True}
        unchecked = {name for name in CHECKS if getattr(result.checks, name) == "not_checked"}
        if trust is not None:
            assert unchecked == {"external_time", "witnesses"}
        else:
            assert checked == set(CHECKS[:6])
