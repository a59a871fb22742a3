"""The archiver's reads of signed trees, and its accounts of archived data.

The tables read here are append-only, so no snapshot is held while objects are written to a
target: a snapshot would keep the database from vacuuming behind appends.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final, NamedTuple

from ledger.rows import DecidingTable, Value
from ledger.storage.archived_attestations import AttestationAccount
from ledger.storage.database import Connection, Database, connect, explained
from ledger.storage.lock_waits import holders
from ledger.storage.security_events import storable
from ledger.storage.tree_out import MAX_NOTE_BYTES
from ledger.storage.trees import ANCHOR_LOG

CHANNEL: Final = "quire_archive"
"""Channel whose notifications hold the id of an org to archive at once."""
ARCHIVER_LOCK: Final = 7_305_804_404
MAX_DUE: Final = 1_000

ARCHIVED_ROWS: Final = DecidingTable(
    "archived",
    ("target", "org_id", "size", "leaves"),
    ("root", "objects", "bytes", "archived_at"),
    times=("archived_at",),
)
_COLUMNS: Final = f"{ARCHIVED_ROWS.selected()}, mac"
ROWS_AT_ONCE: Final = 100
ARCHIVED: Final = f"""
SELECT {_COLUMNS} FROM archived WHERE target = $1 AND org_id = $2
ORDER BY size DESC, leaves DESC LIMIT $3 OFFSET $4"""
ADD_ARCHIVED: Final = """
INSERT INTO archived (target, org_id, size, leaves, root, objects, bytes, archived_at, mac)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING"""
# The row by which DUE decides, of every org.
NEWEST: Final = f"""
SELECT a.* FROM trees t CROSS JOIN LATERAL (
    SELECT {_COLUMNS} FROM archived
    WHERE target = $1 AND org_id = t.org_id AND archived.size <= t.size
    ORDER BY archived.size DESC, leaves DESC LIMIT 1
) AS a ORDER BY org_id"""
# One probe of each index per org; the orgs that waited longest come first. Leaves of the anchor
# log count only once the anchor log's archive has them.
DUE: Final = f"""
SELECT t.org_id FROM trees t
LEFT JOIN LATERAL (
    SELECT size, leaves, archived_at FROM archived a
    WHERE a.target = $1 AND a.org_id = t.org_id AND a.size <= t.size
    ORDER BY size DESC, leaves DESC LIMIT 1
) AS done ON true
LEFT JOIN LATERAL (
    SELECT idx FROM anchor_leaves l
    WHERE l.org_id = t.org_id AND l.idx < (
        SELECT coalesce(max(size), 0) FROM archived a
        WHERE a.target = $1 AND a.org_id = {ANCHOR_LOG})
    ORDER BY size DESC, idx DESC LIMIT 1
) AS leaf ON true
LEFT JOIN archive_problems p ON p.target = $1 AND p.org_id = t.org_id
WHERE t.org_id <> {ANCHOR_LOG} AND t.size > 0
  AND (t.size > coalesce(done.size, 0) OR leaf.idx >= coalesce(done.leaves, 0))
  AND (done.archived_at IS NULL OR done.archived_at NOT BETWEEN now() - $2::interval AND now())
  AND (p.tried_at IS NULL OR p.tried_at NOT BETWEEN now() - $3::interval AND now())
ORDER BY done.archived_at NULLS FIRST LIMIT {MAX_DUE}"""
PROBLEM: Final = """
SELECT reason, since FROM archive_problems WHERE target = $1 AND org_id = $2"""
KEEP_PROBLEM: Final = """
INSERT INTO archive_problems (target, org_id, reason) VALUES ($1, $2, $3)
ON CONFLICT (target, org_id) DO UPDATE SET reason = excluded.reason, tried_at = excluded.tried_at"""
CLEAR_PROBLEM: Final = "DELETE FROM archive_problems WHERE target = $1 AND org_id = $2"

_NOTE: Final = f"CASE WHEN octet_length(note) <= {MAX_NOTE_BYTES} THEN note END"
CHECKPOINTS: Final = f"""
SELECT size, {_NOTE}, signed_at FROM checkpoints
WHERE org_id = $1 AND size > $2 AND size <= $3 ORDER BY size LIMIT $4"""
# The checkpoint to archive next: the largest within reach, or the next larger one.
NEXT_CHECKPOINT: Final = f"""
(SELECT size, {_NOTE}, signed_at FROM checkpoints
 WHERE org_id = $1 AND size > $2 AND size <= $3 ORDER BY size DESC LIMIT 1)
UNION ALL
(SELECT size, {_NOTE}, signed_at FROM checkpoints
 WHERE org_id = $1 AND size > $2 ORDER BY size LIMIT 1)
LIMIT 1"""
CHECKPOINT_AT: Final = f"""
SELECT size, {_NOTE}, signed_at FROM checkpoints WHERE org_id = $1 AND size = $2"""
NEWEST_LEAF: Final = """
SELECT idx, size FROM anchor_leaves WHERE org_id = $1 AND size <= $2 AND idx < $3
ORDER BY size DESC, idx DESC LIMIT 1"""
LEAVES_OF: Final = """
SELECT idx, size, CASE WHEN octet_length(nonce) = 32 THEN nonce END FROM anchor_leaves
WHERE org_id = $1 AND size BETWEEN $2 AND $3 AND idx >= $4 ORDER BY idx LIMIT $5"""
ANCHOR_LEAVES: Final = """
SELECT idx, CASE WHEN octet_length(leaf) = 32 THEN leaf END FROM anchor_leaves
WHERE idx BETWEEN $1 AND $2 ORDER BY idx LIMIT $3"""


class ArchivedUpTo(NamedTuple):
    """The archived part: all up to the checkpoint of ``size``, anchor leaves below ``leaves``.

    ``objects`` and ``bytes`` count what is archived of the org so far.
    """

    size: int
    leaves: int
    root: bytes
    objects: int
    bytes: int
    archived_at: datetime


class SignedRow(NamedTuple):
    """A stored checkpoint; ``note`` is None if it is too long to be valid."""

    size: int
    note: bytes | None
    signed_at: datetime


class ArchiveAccount:
    """The accounts of what is archived in one target; ``row_key`` authenticates their rows.

    Without the key, on a machine that does not have it, rows are not judged, and none is added.

    A row that no archiver wrote is left aside, as if it were not there, and ``report`` is called
    with its org and what is wrong. Methods raise DatabaseUnavailable.
    """

    def __init__(
        self,
        database: Database,
        target: str,
        row_key: bytes | None,
        report: Callable[[int, str], None] = lambda _org, _what: None,
    ) -> None:
        self._database = database
        self._target = target
        self._row_key = row_key
        self._report = report

    @cached_property
    def attested(self) -> AttestationAccount:
        """The accounts of tokens and cosignatures."""
        assert self._row_key is not None, "an archiver has the master key"
        return AttestationAccount(self._database, self._target, self._row_key, self._report)

    async def upto(self, org_id: int) -> ArchivedUpTo | None:
        """Return how far an org is archived, None if nothing is archived."""
        start = 0
        while rows := await self._database.fetch(
            ARCHIVED, self._target, org_id, ROWS_AT_ONCE, start
        ):
            for *values, mac in rows:
                if self._is_right(org_id, values, mac):
                    return ArchivedUpTo(*values[2:])
            start += len(rows)
        return None

    async def add(self, org_id: int, upto: tuple[int, int, bytes], cost: tuple[int, int]) -> None:
        """Record that an org is archived up to (size, leaves, root), at a cost of (objects, bytes)."""
        assert self._row_key is not None, "an archiver has the master key"
        before = await self.upto(org_id)
        objects, size = (before.objects, before.bytes) if before else (0, 0)
        row = account_row(self._target, org_id, upto, (objects + cost[0], size + cost[1]))
        await self._database.execute(ADD_ARCHIVED, *row, ARCHIVED_ROWS.mac(self._row_key, *row))
        await self._database.execute(CLEAR_PROBLEM, self._target, org_id)

    async def forged(self) -> list[int]:
        """Return the orgs whose newest row no archiver wrote; reads one row of every org."""
        found = []
        async with self._database.transaction() as connection:
            cursor = await connection.cursor(NEWEST, self._target)
            while rows := await cursor.fetch(ROWS_AT_ONCE):
                found += [
                    values[1] for *values, mac in rows if not self._is_right(values[1], values, mac)
                ]
        return found

    def _is_right(self, org_id: int, values: list[Value], mac: bytes) -> bool:
        if self._row_key is None or ARCHIVED_ROWS.is_right(self._row_key, mac, *values):
            return True
        self._report(
            org_id,
            f"a row of table archived (size {values[2]!r}) was changed or made in the database: it "
            "is left aside, and what it stands for is archived. Run a full verification",
        )
        return False


def account_row(
    target: str, org_id: int, upto: tuple[int, int, bytes], so_far: tuple[int, int]
) -> tuple[Value, ...]:
    """Return the covered values of a new row: archived up to (size, leaves, root), now."""
    return (target, org_id, *upto, *so_far, datetime.now(UTC))


async def due(database: Database, target: str, pace_s: float, retry_s: float) -> list[int]:
    """Return the orgs with new data, except those archived within ``pace_s`` or failed within
    ``retry_s``.
    """
    return [
        row[0]
        for row in await database.fetch(
            DUE, target, timedelta(seconds=pace_s), timedelta(seconds=retry_s)
        )
    ]


async def problem(database: Database, target: str, org_id: int) -> tuple[str, datetime] | None:
    """Return the reason why an org can't be archived, and since when."""
    row = await database.fetchrow(PROBLEM, target, org_id)
    return None if row is None else (row[0], row[1])


async def keep_problem(database: Database, target: str, org_id: int, reason: str) -> None:
    """Store the reason why an org could not be archived."""
    await database.execute(KEEP_PROBLEM, target, org_id, storable(reason))


async def checkpoints(
    database: Database, org_id: int, above: int, until: int, limit: int
) -> list[SignedRow]:
    """Return the checkpoints of sizes above ``above`` up to ``until``, smallest first."""
    rows = await database.fetch(CHECKPOINTS, org_id, above, until, limit)
    return [SignedRow(*row) for row in rows]


async def checkpoint_at(database: Database, org_id: int, size: int) -> SignedRow | None:
    """Return the checkpoint of exactly this size, or None."""
    row = await database.fetchrow(CHECKPOINT_AT, org_id, size)
    return None if row is None else SignedRow(*row)


async def next_checkpoint(
    database: Database, org_id: int, size: int, reach: int
) -> SignedRow | None:
    """Return the largest checkpoint above ``size`` within ``reach``, else the next larger one.

    None if there is no larger checkpoint.
    """
    row = await database.fetchrow(NEXT_CHECKPOINT, org_id, size, size + reach)
    return None if row is None else SignedRow(*row)


async def leaves_end(database: Database, org_id: int, size: int, below: int) -> tuple[int, int]:
    """Find the newest anchor leaf with an index below ``below``, for checkpoints up to ``size``.

    Returns the index after it and its checkpoint's size; (0, 0) if there is none.
    """
    row = await database.fetchrow(NEWEST_LEAF, org_id, size, below) if below else None
    return (0, 0) if row is None else (row[0] + 1, row[1])


async def leaves_of(
    database: Database, org_id: int, sizes: tuple[int, int], first: int, limit: int
) -> list[tuple[int, int, bytes | None]]:
    """Return anchor leaves (idx, size, nonce) from ``first`` on, of checkpoints of these sizes."""
    rows = await database.fetch(LEAVES_OF, org_id, *sizes, first, limit)
    return [(row[0], row[1], row[2]) for row in rows]


async def anchor_log(database: Database, first: int, last: int) -> list[tuple[int, bytes | None]]:
    """Return leaves of the anchor log with their index."""
    found = await database.fetch(ANCHOR_LEAVES, first, last, last - first + 1)
    return [(row[0], row[1]) for row in found]


async def ask(database: Database, org_id: int) -> None:
    """Request the archiver to archive an org at once."""
    await database.execute("SELECT pg_notify($1, $2)", CHANNEL, str(org_id))


ARCHIVER: Final = "quire archiver"
"""The session's application name in pg_stat_activity."""


class ArchiverLock:
    """A session that holds the advisory lock under which one process at a time archives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, url: str) -> ArchiverLock:
        """Open the session. Raises DatabaseUnavailable."""
        return cls(await connect(url, name=ARCHIVER))

    async def take(self) -> bool:
        """Acquire or keep the lock; False while another process holds it.

        Raises DatabaseUnavailable.
        """
        async with explained():
            acquired: Any = await self._connection.fetchval(
                "SELECT pg_try_advisory_lock($1)", ARCHIVER_LOCK
            )
        return bool(acquired)

    async def holder(self) -> str:
        """Describe the session that holds the lock."""
        return await holders(self._connection, ARCHIVER_LOCK)

    def close(self) -> None:
        """Release the lock by closing the session."""
        self._connection.terminate()
