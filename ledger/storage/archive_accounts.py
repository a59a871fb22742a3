"""What the archive reads of trails and signed trees, and the account of what is archived.

All that is read here is only ever added to, so no snapshot is held while objects are on their
way to a target: it would keep the database from tidying up behind appends.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from ledger.chain import StoredEntry
from ledger.entry import MAX_LEAF_BYTES
from ledger.storage.database import Connection, Database, connect, explained
from ledger.storage.lock_waits import holders
from ledger.storage.security_events import storable
from ledger.storage.trail import ENTRY_COLUMNS
from ledger.storage.tree_out import MAX_NOTE_BYTES, MAX_TOKEN_BYTES
from ledger.storage.trees import ANCHOR_LOG

CHANNEL: Final = "quire_archive"
"""Notified with the id of an org that is to be archived at once."""
ARCHIVER_LOCK: Final = 7_305_804_404
MAX_PAYLOAD_BYTES: Final = (64 << 20) + 1024
"""What a payload can have, with its seal."""
MAX_DUE: Final = 1_000

ARCHIVED: Final = """
SELECT size, leaves, root, archived_at FROM archived
WHERE target = $1 AND org_id = $2 ORDER BY size DESC, leaves DESC LIMIT 1"""
ADD_ARCHIVED: Final = """
INSERT INTO archived (target, org_id, size, leaves, root, objects, bytes)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING"""
TOTALS: Final = """
SELECT coalesce(sum(objects), 0)::bigint, coalesce(sum(bytes), 0)::bigint
FROM archived WHERE target = $1 AND org_id = $2"""
# One probe of each index per org; those that waited longest come first. Leaves of the anchor log
# count once its archive has them.
DUE: Final = f"""
SELECT t.org_id FROM trees t
LEFT JOIN LATERAL (
    SELECT size, leaves, archived_at FROM archived a
    WHERE a.target = $1 AND a.org_id = t.org_id ORDER BY size DESC, leaves DESC LIMIT 1
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
# The one to archive next: the largest within reach, or the next one where none is.
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
SIZES_OF_ROWS: Final = f"""
SELECT seq, octet_length(leaf)::bigint + octet_length(payload),
       octet_length(leaf) <= {MAX_LEAF_BYTES} AND octet_length(payload) <= {MAX_PAYLOAD_BYTES}
FROM entries WHERE org_id = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq, anchored_at LIMIT $4"""
ROWS: Final = f"""
SELECT {ENTRY_COLUMNS} FROM entries
WHERE org_id = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq, anchored_at LIMIT $4"""
ANCHOR_LEAVES: Final = """
SELECT idx, CASE WHEN octet_length(leaf) = 32 THEN leaf END FROM anchor_leaves
WHERE idx BETWEEN $1 AND $2 ORDER BY idx LIMIT $3"""
NEW_TOKENS: Final = f"""
SELECT t.size, t.added_at, CASE WHEN octet_length(t.token) <= {MAX_TOKEN_BYTES} THEN t.token END
FROM anchor_tokens t
WHERE t.size <= $2 AND NOT EXISTS (
    SELECT FROM archived_attestations a
    WHERE a.target = $1 AND a.kind = 'token' AND a.size = t.size AND a.witness = ''
      AND a.added_at = t.added_at)
ORDER BY t.size, t.added_at LIMIT $3"""
NEW_COSIGNATURES: Final = f"""
SELECT c.size, c.added_at, c.witness,
       CASE WHEN octet_length(c.line) <= {MAX_NOTE_BYTES} THEN c.line END
FROM anchor_cosignatures c
WHERE c.size <= $2 AND NOT EXISTS (
    SELECT FROM archived_attestations a
    WHERE a.target = $1 AND a.kind = 'cosignature' AND a.size = c.size AND a.witness = c.witness
      AND a.added_at = c.added_at)
ORDER BY c.size, c.added_at LIMIT $3"""
ADD_ATTESTATION: Final = """
INSERT INTO archived_attestations (target, kind, size, witness, added_at)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING"""


class ArchivedUpTo(NamedTuple):
    """Everything up to the checkpoint of ``size`` is archived, and anchor leaves below ``leaves``."""

    size: int
    leaves: int
    root: bytes
    archived_at: datetime


class SignedRow(NamedTuple):
    """A checkpoint as it is stored; ``note`` None where it is too long to be one."""

    size: int
    note: bytes | None
    signed_at: datetime


class AttestedRow(NamedTuple):
    """A token (``witness`` empty) or signature line, None where it is too long to be one."""

    size: int
    added_at: datetime
    witness: str
    data: bytes | None


async def archived(database: Database, target: str, org_id: int) -> ArchivedUpTo | None:
    """How far the org is archived in this target."""
    row = await database.fetchrow(ARCHIVED, target, org_id)
    return None if row is None else ArchivedUpTo(*row)


async def add_archived(
    database: Database,
    target: str,
    org_id: int,
    upto: tuple[int, int, bytes],
    much: tuple[int, int],
) -> None:
    """Account for what is stored now: (size, leaves, root), by so many (objects, bytes)."""
    await database.execute(ADD_ARCHIVED, target, org_id, *upto, *much)
    await database.execute(CLEAR_PROBLEM, target, org_id)


async def totals(database: Database, target: str, org_id: int) -> tuple[int, int]:
    """Objects and bytes that were archived of an org."""
    row = await database.fetchrow(TOTALS, target, org_id)
    return (0, 0) if row is None else (row[0], row[1])


async def due(database: Database, target: str, pace_s: float, retry_s: float) -> list[int]:
    """Orgs that have something new and were not archived, nor failed, so lately."""
    return [
        row[0]
        for row in await database.fetch(
            DUE, target, timedelta(seconds=pace_s), timedelta(seconds=retry_s)
        )
    ]


async def problem(database: Database, target: str, org_id: int) -> tuple[str, datetime] | None:
    """What keeps an org from being archived, and since when."""
    row = await database.fetchrow(PROBLEM, target, org_id)
    return None if row is None else (row[0], row[1])


async def keep_problem(database: Database, target: str, org_id: int, reason: str) -> None:
    """Keep why an org was not archived."""
    told = storable(reason)
    await database.execute(KEEP_PROBLEM, target, org_id, told)


async def checkpoints(
    database: Database, org_id: int, above: int, until: int, limit: int
) -> list[SignedRow]:
    """Checkpoints of sizes above ``above`` up to ``until``, smallest first."""
    rows = await database.fetch(CHECKPOINTS, org_id, above, until, limit)
    return [SignedRow(*row) for row in rows]


async def checkpoint_at(database: Database, org_id: int, size: int) -> SignedRow | None:
    """The checkpoint of exactly this size."""
    row = await database.fetchrow(CHECKPOINT_AT, org_id, size)
    return None if row is None else SignedRow(*row)


async def next_checkpoint(
    database: Database, org_id: int, size: int, reach: int
) -> SignedRow | None:
    """The largest checkpoint beyond ``size`` by ``reach`` at most; else the next; None: no more."""
    row = await database.fetchrow(NEXT_CHECKPOINT, org_id, size, size + reach)
    return None if row is None else SignedRow(*row)


async def leaves_end(database: Database, org_id: int, size: int, below: int) -> tuple[int, int]:
    """Of checkpoints up to ``size``, the newest anchor leaf that has a place below ``below``.

    Returns the place after it and its checkpoint's size; (0, 0) where there is none.
    """
    row = await database.fetchrow(NEWEST_LEAF, org_id, size, below) if below else None
    return (0, 0) if row is None else (row[0] + 1, row[1])


async def leaves_of(
    database: Database, org_id: int, sizes: tuple[int, int], first: int, limit: int
) -> list[tuple[int, int, bytes | None]]:
    """Anchor leaves (idx, size, nonce) from ``first`` on, of checkpoints of these sizes."""
    rows = await database.fetch(LEAVES_OF, org_id, *sizes, first, limit)
    return [(row[0], row[1], row[2]) for row in rows]


async def sizes_of_rows(
    database: Database, org_id: int, first: int, last: int
) -> list[tuple[int, int, bool]]:
    """Of each entry: seq, bytes of leaf and payload, and whether they are within all limits."""
    limit = last - first + 2
    rows = await database.fetch(SIZES_OF_ROWS, org_id, first, last, limit)
    return [(row[0], row[1], row[2]) for row in rows]


async def rows(database: Database, org_id: int, first: int, last: int) -> list[StoredEntry]:
    """The entries of these seqs that are there."""
    return [
        StoredEntry(*row)
        for row in await database.fetch(ROWS, org_id, first, last, last - first + 2)
    ]


async def anchor_log(database: Database, first: int, last: int) -> list[tuple[int, bytes | None]]:
    """Leaves of the anchor log with their index."""
    found = await database.fetch(ANCHOR_LEAVES, first, last, last - first + 1)
    return [(row[0], row[1]) for row in found]


async def new_attestations(
    database: Database, target: str, size: int, limit: int
) -> list[AttestedRow]:
    """Tokens and cosignatures of anchors up to ``size`` that are not archived yet."""
    tokens = await database.fetch(NEW_TOKENS, target, size, limit)
    lines = await database.fetch(NEW_COSIGNATURES, target, size, limit)
    return [AttestedRow(row[0], row[1], "", row[2]) for row in tokens] + [
        AttestedRow(*row) for row in lines
    ]


async def add_attestation(database: Database, target: str, one: AttestedRow) -> None:
    """Account for a token or cosignature that is stored now."""
    kind = "cosignature" if one.witness else "token"
    await database.execute(ADD_ATTESTATION, target, kind, one.size, one.witness, one.added_at)


async def ask(database: Database, org_id: int) -> None:
    """Ask the archiver to archive an org at once."""
    await database.execute("SELECT pg_notify($1, $2)", CHANNEL, str(org_id))


ARCHIVER: Final = "quire archiver"
"""As which its session shows in pg_stat_activity."""


class ArchiverLock:
    """A session that keeps the lock, so that one process archives at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, url: str) -> ArchiverLock:
        """Raises DatabaseUnavailable."""
        return cls(await connect(url, name=ARCHIVER))

    async def take(self) -> bool:
        """Take or keep it; False while another has it. Raises DatabaseUnavailable."""
        async with explained():
            held: Any = await self._connection.fetchval(
                "SELECT pg_try_advisory_lock($1)", ARCHIVER_LOCK
            )
        return bool(held)

    async def holder(self) -> str:
        """Who has it instead, in words."""
        return await holders(self._connection, ARCHIVER_LOCK)

    def close(self) -> None:
        """Let it go."""
        self._connection.terminate()
