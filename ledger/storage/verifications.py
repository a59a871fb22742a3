"""The table of verification jobs; any server process can answer for any job, if its row is authentic."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from ledger.rows import DecidingTable, Value
from ledger.storage.database import Database

VERIFICATIONS: Final = DecidingTable(
    "verifications",
    ("id",),
    (
        "org_id", "from_seq", "to_seq", "state", "processed", "total", "fault_count", "faults",
        "result", "error", "created_at", "finished_at",
    ),
    times=("created_at", "finished_at"),
)  # fmt: skip

ABANDONED_AFTER_S: Final = 30
"""Seconds without a heartbeat after which the process of a job counts as dead."""

_COLUMNS: Final = ", ".join(VERIFICATIONS.columns)
FIND: Final = f"""
SELECT {VERIFICATIONS.selected()}, rate, mac,
       state IN ('queued', 'running')
           AND heartbeat_at < now() - interval '{ABANDONED_AFTER_S} seconds'
FROM verifications WHERE id = $1 AND org_id = $2"""
STORED: Final = f"SELECT {VERIFICATIONS.selected()}, mac FROM verifications WHERE id = $1"
# Whatever the row says, or if it was removed: the process that owns the job knows its state.
STORE: Final = f"""
INSERT INTO verifications ({_COLUMNS}, rate, mac, owner)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in VERIFICATIONS.deciding)},
    rate = excluded.rate, mac = excluded.mac, owner = excluded.owner, heartbeat_at = now()"""
BEAT: Final = """
UPDATE verifications SET heartbeat_at = now()
WHERE owner = $1 AND state IN ('queued', 'running')"""

EXPIRED_AT_ONCE: Final = 1_000
# This includes unfinished jobs whose process is dead.
EXPIRE: Final = f"""
DELETE FROM verifications WHERE id IN (
    (SELECT id FROM verifications WHERE finished_at < $1 ORDER BY finished_at
     LIMIT {EXPIRED_AT_ONCE})
    UNION ALL
    (SELECT id FROM verifications WHERE state IN ('queued', 'running') AND heartbeat_at < $1
     LIMIT {EXPIRED_AT_ONCE}))"""


class JobRow(NamedTuple):
    """One job, in the order of the columns that its MAC covers; then its entries per second.

    ``faults`` and ``result`` are JSON text. If it ``is_authentic``, a server wrote what it says.
    ``abandoned``: it is not finished, and its process sends no heartbeats any more.
    """

    id: str
    org_id: int
    from_seq: int | None
    to_seq: int | None
    state: str
    processed: int
    total: int
    fault_count: int
    faults: str
    result: str | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None
    rate: float = 0.0
    is_authentic: bool = True
    abandoned: bool = False

    def covered(self) -> tuple[Value, ...]:
        """Return the values of the columns that the MAC covers."""
        return tuple(self)[: len(VERIFICATIONS.columns)]  # type: ignore[return-value]


class VerificationTable:
    """Jobs by id; ``row_key`` authenticates their rows. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database, row_key: bytes) -> None:
        self.database = database
        self._row_key = row_key

    async def store(self, row: JobRow, owner: str) -> None:
        """Store a job's present state, in the place of any other; ``owner`` is its process."""
        mac = VERIFICATIONS.mac(self._row_key, *row.covered())
        await self.database.execute(STORE, *row.covered(), row.rate, mac, owner)

    async def was_altered(self, job_id: str) -> bool:
        """Return whether the row of an unfinished job was removed, or changed by another."""
        row = await self.database.fetchrow(STORED, job_id)
        return row is None or not self._is_right(row[-1], row[:-1])

    async def find(self, job_id: str, org_id: int) -> JobRow | None:
        """Return an org's job, authentic or not, or None if the org has no such job."""
        row = await self.database.fetchrow(FIND, job_id, org_id)
        if row is None:
            return None
        *covered, rate, mac, abandoned = row
        return JobRow(*covered, rate, self._is_right(mac, covered), abandoned)  # type: ignore[call-arg]

    def _is_right(self, mac: bytes, covered: Sequence[Value]) -> bool:
        return VERIFICATIONS.is_right(self._row_key, mac, *covered)

    async def beat(self, owner: str) -> None:
        """Record a heartbeat for all jobs of a live process."""
        await self.database.execute(BEAT, owner)

    async def expire(self, now: datetime, days: int) -> int:
        """Delete the jobs that ended over ``days`` before ``now``; return their number."""
        deleted = 0
        while True:
            tag = await self.database.execute(EXPIRE, now - timedelta(days=days))
            batch = int(tag.rpartition(" ")[2])
            deleted += batch
            if batch < EXPIRED_AT_ONCE:
                return deleted
