"""The trails with entries that no checkpoint covers, how old these are, and the newest signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ledger.entry import MAX_SEQ
from ledger.storage.database import Database
from ledger.storage.entries import extent

MAX_UNSIGNED: Final = 10_000
"""Limit of the orgs that are watched at once; those that waited longest come first."""

# A head beyond the largest seq was edited. Frozen orgs are listed too: whoever can freeze an org and
# thaw it by its row could else reset how long its entries have waited. A head that was set back hides
# no entry that the caller acknowledged, unless an operator thawed the org since.
_SEEN: Final = "CASE WHEN h.org_id IS NULL OR h.thawed_us = a.thawed_us THEN a.length END"
_LENGTH: Final = f"greatest(least(coalesce(h.seq, -1), {MAX_SEQ}) + 1, {_SEEN})"
UNSIGNED: Final = f"""
SELECT coalesce(h.org_id, a.org_id), coalesce(t.size, 0), {_LENGTH},
       CASE WHEN t.stopped_at IS NOT NULL THEN split_part(coalesce(t.stopped_reason, ''), ':', 1) END,
       h.frozen_reason IS NOT NULL
FROM heads h
FULL JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS a (org_id, length, thawed_us)
    ON a.org_id = h.org_id
LEFT JOIN trees t ON t.org_id = coalesce(h.org_id, a.org_id)
WHERE {_LENGTH} > coalesce(t.size, 0)
ORDER BY t.signed_at NULLS FIRST LIMIT {MAX_UNSIGNED}"""
LAST_SIGNED: Final = """
SELECT coalesce(max(signed_at), 'epoch')::text,
       extract(epoch FROM clock_timestamp() - greatest(max(signed_at), 'epoch'))::float8,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM trees"""


class AcknowledgedHead(NamedTuple):
    """The length of a trail as this process acknowledged it, after this thaw (µs, 0: none)."""

    length: int
    thawed_us: int


class UnsignedTrail(NamedTuple):
    """An org whose trail has ``length`` entries, of which ``size`` are signed.

    ``doubt`` is the kind of doubt for which the signer stopped it, or None. ``frozen``: it is not
    signed, and takes no appends.
    """

    org_id: int
    size: int
    length: int
    doubt: str | None
    frozen: bool


async def unsigned_trails(
    database: Database, acknowledged: Mapping[int, AcknowledgedHead]
) -> list[UnsignedTrail]:
    """Return the trails that are not signed to their end, by their heads or by those acknowledged."""
    rows = await database.fetch(
        UNSIGNED,
        list(acknowledged),
        [head.length for head in acknowledged.values()],
        [head.thawed_us for head in acknowledged.values()],
    )
    return [UnsignedTrail(*row) for row in rows]


async def last_signed(database: Database) -> tuple[str, float, int]:
    """Return when a tree was last signed: as text and in seconds of age; and the time, in µs.

    All are by the database's clock.
    """
    text, age_s, now_us = (await database.fetch(LAST_SIGNED))[0]
    return text, max(age_s, 0.0), now_us


async def written_us(database: Database, org_id: int, seq: int) -> int | None:
    """Return when an entry was written (µs); None if it is not in the database."""
    async with database.connection() as connection:
        return await extent.written_us(connection, org_id, seq)
