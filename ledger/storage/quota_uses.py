"""How much of its daily quota each org has used, of all servers together.

A process takes a part of the quota in advance, and appends from it without asking the database. So
no day exceeds a quota, whatever the number of processes; what a process took and did not use is lost
to the org when the process ends. The parts get smaller towards 80 % and 100 %.
"""

from __future__ import annotations

from datetime import date
from typing import Final, NamedTuple

from ledger.rows import DecidingTable, RowNotAuthentic
from ledger.storage import security_events
from ledger.storage.database import Connection, Database

QUOTA_USES: Final = DecidingTable("quota_uses", ("org_id",), ("day", "entries", "bytes", "warned"))
WARN_PERCENT: Final = 80
PARTS: Final = 100
"""A process takes at most one of so many parts of a quota in advance."""
NEARING: Final = 8
"""And at most one of so many parts of what is left until an event is stored, or the quota is used."""
WARNED: Final = "quota_nearly_used"
USED_UP: Final = "quota_used_up"

# The time of the database: all servers agree on the day.
_NOW: Final = """
SELECT (now() AT TIME ZONE 'UTC')::date,
       extract(epoch FROM date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day'
                          - (now() AT TIME ZONE 'UTC'))::float8"""
_ADD: Final = "INSERT INTO quota_uses VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"
_LOCK: Final = f"SELECT {QUOTA_USES.selected()}, mac FROM quota_uses WHERE org_id = $1 FOR UPDATE"
SET_USE: Final = """
UPDATE quota_uses SET day = $2, entries = $3, bytes = $4, warned = $5, mac = $6 WHERE org_id = $1"""


class Amount(NamedTuple):
    """Entries, and bytes of bodies."""

    entries: int = 0
    bytes: int = 0

    def __bool__(self) -> bool:
        return self.entries > 0 or self.bytes > 0

    def plus(self, other: Amount) -> Amount:
        """Return the sum."""
        return Amount(self.entries + other.entries, self.bytes + other.bytes)


class QuotaPart(NamedTuple):
    """A part of a quota that a process may use beyond what it asked for; None: nothing at all.

    ``ends_s`` is how long the day lasts from now; ``used_up`` whether all of the quota is used.
    """

    ahead: Amount | None
    ends_s: float
    used_up: bool


class _Use(NamedTuple):
    org_id: int
    day: date
    entries: int
    bytes: int
    warned: int


async def take(
    database: Database, row_key: bytes, org_id: int, quota: Amount, owed: Amount, asked: Amount
) -> QuotaPart:
    """Use ``owed`` in any case, and ``asked`` if the quota (0: none) has so much left; commit it.

    Raises RowNotAuthentic, DatabaseUnavailable.
    """
    async with database.transaction() as connection:
        day, ends_s = await connection.fetchrow(_NOW)  # type: ignore[misc]  # it has one row
        use = await _locked(connection, row_key, org_id, day)
        used = Amount(use.entries, use.bytes).plus(owed)
        fits = _fits(quota, used.plus(asked))
        ahead = Amount()
        if fits:
            used = used.plus(asked)
            ahead = Amount(*map(_ahead, quota, used))
            used = used.plus(ahead)
        warned = await _warn(connection, use, quota, used, refused=not fits)
        now = use._replace(entries=used.entries, bytes=used.bytes, warned=warned)
        await connection.execute(SET_USE, *now, QUOTA_USES.mac(row_key, *now))
    used_up = any(most and have >= most for most, have in zip(quota, used, strict=True))
    return QuotaPart(ahead if fits else None, ends_s, used_up)


async def _locked(connection: Connection, row_key: bytes, org_id: int, day: date) -> _Use:
    """Return what the org used on this day, its row locked."""
    row = await connection.fetchrow(_LOCK, org_id)
    if row is None:
        new = _Use(org_id, day, 0, 0, 0)
        await connection.execute(_ADD, *new, QUOTA_USES.mac(row_key, *new))
        row = await connection.fetchrow(_LOCK, org_id)
        assert row is not None, "it was added, here or by another process"
    use = _Use(*row[:-1])
    if not QUOTA_USES.is_right(row_key, row[-1], *use):
        raise RowNotAuthentic(
            f"the row of table quota_uses with org_id {org_id} was changed in the database: nothing "
            "is appended to the org. Delete the row, and find out who can write to the database"
        )
    # A clock that was set back must not begin a day twice.
    return use if use.day >= day else _Use(org_id, day, 0, 0, 0)


def _fits(quota: Amount, used: Amount) -> bool:
    return all(not most or have <= most for most, have in zip(quota, used, strict=True))


def _ahead(most: int, used: int) -> int:
    """Return how much a process takes in advance."""
    warning = most * WARN_PERCENT // 100
    border = warning if used < warning else most
    return max(0, min(most // PARTS, (border - used) // NEARING))


async def _warn(
    connection: Connection, use: _Use, quota: Amount, used: Amount, *, refused: bool
) -> int:
    """Store the events that are due, each once a day; return the percent that are reported."""
    percent = max(
        (have * 100 // most for most, have in zip(quota, used, strict=True) if most), default=0
    )
    reached = 100 if refused or percent >= 100 else percent
    warned = use.warned
    for border, kind in ((WARN_PERCENT, WARNED), (100, USED_UP)):
        if warned < border <= reached:
            detail = f"{border} % of the quota of {use.day} (UTC) is used: {_told(quota, used)}"
            await security_events.add(connection, use.org_id, kind, detail)
            warned = border
    return warned


def _told(quota: Amount, used: Amount) -> str:
    parts = zip(("entries", "bytes"), used, quota, strict=True)
    return ", ".join(f"{have:,} of {most:,} {name}" for name, have, most in parts if most)
