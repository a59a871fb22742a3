"""The trails with entries that no checkpoint covers, and the time of the newest signature."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from ledger.entry import MAX_SEQ
from ledger.storage.database import Database

MAX_UNSIGNED: Final = 10_000
"""Limit of the orgs that are watched at once; those that waited longest come first."""

# A head beyond the largest seq was edited. Frozen orgs are listed too: whoever can freeze an org and
# thaw it by its row could else reset how long its entries have waited.
_LENGTH: Final = f"least(h.seq, {MAX_SEQ}) + 1"
UNSIGNED: Final = f"""
SELECT h.org_id, coalesce(t.size, 0), {_LENGTH}, t.stopped_at IS NOT NULL,
       h.frozen_reason IS NOT NULL
FROM heads h LEFT JOIN trees t ON t.org_id = h.org_id
WHERE {_LENGTH} > coalesce(t.size, 0)
ORDER BY t.signed_at NULLS FIRST LIMIT {MAX_UNSIGNED}"""
LAST_SIGNED: Final = "SELECT coalesce(max(signed_at), 'epoch') FROM trees"


class UnsignedTrail(NamedTuple):
    """An org whose trail has ``length`` entries, of which ``size`` are signed.

    ``stopped``: the signer doubts it. ``frozen``: it is not signed, and takes no appends.
    """

    org_id: int
    size: int
    length: int
    stopped: bool
    frozen: bool


async def unsigned_trails(database: Database) -> list[UnsignedTrail]:
    """Return the trails that are not signed to their end."""
    return [UnsignedTrail(*row) for row in await database.fetch(UNSIGNED)]


async def last_signed(database: Database) -> datetime:
    """Return when a tree was last signed, by the database's clock."""
    moment: datetime = (await database.fetch(LAST_SIGNED))[0][0]
    return moment
