"""Whether the API key of a request is still valid at the moment when the request's work is written.

A key is checked when its request arrives, and a body may take half a minute to follow. So the
transaction that writes checks again: after a revocation was answered, by any server, nothing more is
written for the key.

- An append by an org's key compares the count of revocations in the org's head row, which it locks
  anyway, with the count that was read together with the key. A revocation raises it under the lock.
- An administrative change compares the count in the head row of `system`, where its entry goes.
- Everything else, and what a platform key appends, holds the key's row until the commit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ledger.core.register import Register
from ledger.core.sequencer import Effect, Permit, StaleKey
from ledger.errors import AppendRefused
from ledger.storage.api_keys import hold
from ledger.storage.trail import AppendTransaction
from server.access.auth import Principal, is_current


class AppendPermits(NamedTuple):
    """The checks of one append: under the lock of the head, or by a statement of its own."""

    permit: Permit | None = None
    effect: Effect | None = None


NOT_CHECKED: Final = AppendPermits()
"""For a caller without a key."""


def change_permit(register: Register, principal: Principal | None) -> Permit | None:
    """Return the check of a change whose entry goes to the trail `system`; None without a caller.

    Every revocation is an entry of that trail, and counts in its head row.
    """
    if principal is None:
        return None
    counted = principal.system_revocations
    return lambda found: found == counted and is_current(register, principal)


def append_permits(register: Register, principal: Principal | None) -> AppendPermits:
    """Return the checks of an append by this caller; none for a caller without a key."""
    if principal is None:
        return NOT_CHECKED
    if principal.org_id is None:
        return AppendPermits(effect=holding(register, principal))
    counted = principal.revocations
    return AppendPermits(lambda found: found == counted and is_current(register, principal))


def holding(
    register: Register, principal: Principal | None, effect: Effect | None = None
) -> Effect | None:
    """Return an effect that is refused unless the principal's key is valid, until the commit."""
    if principal is None:
        return effect

    async def held(transaction: AppendTransaction) -> AppendRefused | None:
        mac = bytes.fromhex(principal.mac)
        kept = is_current(register, principal)
        if not kept or not await transaction.run(
            hold(transaction.connection, principal.key_id, mac)
        ):
            return StaleKey()
        return None if effect is None else await effect(transaction)

    return held
