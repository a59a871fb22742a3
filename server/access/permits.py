"""Whether the API key of a request is still valid at the moment when the request's work is written.

A key is checked when its request arrives, and a body may take half a minute to follow. So the
transaction that writes checks again: after a revocation was answered, by any server, or a change of
the key's end or addresses, nothing more is written for the key as it was. A key that expires while
its request waits is refused in the same way.

- An append by an org's key compares the count of revocations in the org's head row, which it locks
  anyway, with the count that was read together with the key. A revocation, or another change of a key,
  raises it under the lock.
- An administrative change compares the count in the head row of `system`, where its entry goes.
- Everything else, and what a platform key appends, holds the key's row until the commit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ledger.core.sequencer import Effect, Permit, StaleKey
from ledger.errors import AppendRefused
from ledger.storage.api_keys import hold
from ledger.storage.trail import AppendTransaction
from server.access.principal import KeyValidity, Principal


class AppendPermits(NamedTuple):
    """The checks of one append: under the lock of the head, or by a statement of its own."""

    permit: Permit | None = None
    effect: Effect | None = None


NOT_CHECKED: Final = AppendPermits()
"""For a caller without a key."""


def change_permit(validity: KeyValidity, principal: Principal | None) -> Permit | None:
    """Return the check of a change whose entry goes to the trail `system`; None without a caller.

    Every change of a key is an entry of that trail, and counts in its head row.
    """
    if principal is None:
        return None
    counted = principal.system_revocations
    return lambda found: found == counted and validity.is_current(principal)


def append_permits(validity: KeyValidity, principal: Principal | None) -> AppendPermits:
    """Return the checks of an append by this caller; none for a caller without a key."""
    if principal is None:
        return NOT_CHECKED
    if principal.org_id is None:
        return AppendPermits(effect=holding(validity, principal))
    counted = principal.revocations
    return AppendPermits(lambda found: found == counted and validity.is_current(principal))


def holding(
    validity: KeyValidity, principal: Principal | None, effect: Effect | None = None
) -> Effect | None:
    """Return an effect that is refused unless the principal's key is valid, until the commit."""
    if principal is None:
        return effect

    async def held(transaction: AppendTransaction) -> AppendRefused | None:
        mac = bytes.fromhex(principal.mac)
        kept = validity.is_current(principal)
        if not kept or not await transaction.run(
            hold(transaction.connection, principal.key_id, mac)
        ):
            return StaleKey()
        return None if effect is None else await effect(transaction)

    return held
