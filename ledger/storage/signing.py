"""The signer's connection: leadership, the signing transaction, and the signer's reads.

The leader holds the lock of a table that only the signer's role may lock, in a session beside this
one. Each signing transaction locks a second such table, and then requires that the first lock is
still held: a signer that lost it signs nothing, and one that takes it waits for the transaction
under way. So two signers never sign at the same time. The tree rows are also locked before anything
is signed. The server's role can neither take these locks nor end these sessions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from ledger.entry import MAX_SEQ
from ledger.errors import DatabaseUnavailable
from ledger.storage.database import SIGNER_ROLE, Connection, connect, explained
from ledger.storage.entries import copying
from ledger.storage.entries.copying import Sink
from ledger.storage.role_lock import SIGNING, RoleLock
from ledger.storage.signing_transaction import (
    TREE,
    LockedTree,
    SigningTransaction,
    unexpected_rows,
)

APPLICATION: Final = "quire signer"
TURN: Final = "LOCK TABLE quire_signing.turn IN EXCLUSIVE MODE"
LEADS: Final = """
SELECT EXISTS (SELECT FROM pg_locks
               WHERE pid = $1 AND locktype = 'relation' AND granted AND mode = 'ExclusiveLock'
                 AND relation = 'quire_signing.leader'::regclass)"""
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
MAX_PENDING: Final = 200_000
"""Limit of the orgs in one round; the others follow in the next round."""
MAX_NOTE_BYTES: Final = 65_536
"""A longer note is read as NULL: Quire's have a few hundred bytes, an anchor's some thousand."""
COPY_TIMEOUT_S: Final = 600.0
"""Timeout of one batch of leaves: a silently dead connection must not keep leadership for long."""

# A head beyond the largest seq was edited; adding 1 to it must not fail the query for all orgs.
_LENGTH = f"least(coalesce(h.seq, -1), {MAX_SEQ}) + 1"
# Trees that are not stopped, or whose stop is old enough to check them again. A stop in the future
# means that the clock was set back; such a tree is checked too.
_DUE = "(t.stopped_at IS NULL OR t.stopped_at NOT BETWEEN now() - {0}::interval AND now())"
# Trails whose tree was never signed; the tree has no root then. An empty trail is signed too.
_UNSIGNED = "coalesce(t.size, 0) = 0 AND octet_length(coalesce(t.root, '')) = 0"
# Trails that grew, that are shorter than their tree, or that were never signed. A frozen org is not
# signed. A stopped tree is checked again after a while, as it may have been repaired. The trails
# that waited longest come first, so that the limit never excludes a trail for ever.
PENDING = f"""
SELECT h.org_id, o.slug, {_LENGTH}, coalesce(t.size, 0), t.root, t.stopped_reason,
       CASE WHEN t.anchored_at BETWEEN 'epoch' AND '4253-01-01Z' THEN t.anchored_at ELSE 'epoch' END
FROM heads h
JOIN orgs o ON o.id = h.org_id
LEFT JOIN trees t ON t.org_id = h.org_id
WHERE (({_LENGTH}) <> coalesce(t.size, 0) OR {_UNSIGNED}) AND h.frozen_reason IS NULL AND {_DUE.format("$1")}
ORDER BY t.signed_at NULLS FIRST LIMIT {MAX_PENDING}"""
# Trees whose trail is missing, or shorter than the signed size that the caller remembers.
SHORTER = f"""
SELECT w.org_id, w.size, {_LENGTH}
FROM unnest($1::bigint[], $2::bigint[]) AS w (org_id, size)
LEFT JOIN heads h ON h.org_id = w.org_id
LEFT JOIN trees t ON t.org_id = w.org_id
WHERE ({_LENGTH}) < w.size AND h.frozen_reason IS NULL AND {_DUE.format("$3")}"""
WITHOUT_TRAIL = f"""
SELECT t.org_id, t.size FROM trees t
WHERE t.org_id <> 0 AND NOT EXISTS (SELECT FROM heads h WHERE h.org_id = t.org_id)
  AND {_DUE.format("$1")}"""
# Trees that were signed and may be signed again, according to their rows.
SIGNED_TREES = f"""
SELECT t.org_id, o.slug, t.size, t.root FROM trees t
JOIN orgs o ON o.id = t.org_id JOIN heads h ON h.org_id = t.org_id
WHERE (t.size <> 0 OR octet_length(t.root) > 0) AND h.frozen_reason IS NULL AND {_DUE.format("$1")}"""
_NOTE = f"CASE WHEN octet_length(c.note) <= {MAX_NOTE_BYTES} THEN c.note END"
IDLE = f"""
SELECT t.org_id, o.slug, t.size, t.root, {_NOTE} FROM trees t
JOIN orgs o ON o.id = t.org_id
LEFT JOIN checkpoints c ON c.org_id = t.org_id AND c.size = t.size
WHERE t.size > 0 AND t.signed_at < now() - $1::interval AND t.stopped_at IS NULL
ORDER BY t.signed_at LIMIT $2"""
EDGE_TILES = """
SELECT p.org_id, p.level, p.tile, p.start, p.hashes
FROM unnest($1::bigint[], $2::smallint[], $3::bigint[]) AS w (org_id, level, tile)
CROSS JOIN LATERAL (
    SELECT org_id, level, tile, start, hashes FROM tile_parts t
    WHERE t.org_id = w.org_id AND t.level = w.level AND t.tile = w.tile
    ORDER BY start LIMIT 256
) AS p"""
NOTES_AT = f"""
SELECT c.org_id, {_NOTE} FROM unnest($1::bigint[], $2::bigint[]) AS w (org_id, size)
JOIN checkpoints c ON c.org_id = w.org_id AND c.size = w.size"""
ANCHOR_ROWS = f"""
SELECT a.idx, a.org_id, a.nonce, a.leaf, {_NOTE}
FROM anchor_leaves a LEFT JOIN checkpoints c ON c.org_id = a.org_id AND c.size = a.size
WHERE a.idx >= $1 ORDER BY a.idx LIMIT $2"""


class PendingOrg(NamedTuple):
    """An org whose trail (of ``length`` entries) and signed tree differ in size, or unsigned."""

    org_id: int
    slug: str
    length: int
    size: int
    root: bytes | None
    stopped: str | None
    since: datetime


class AnchorRow(NamedTuple):
    """A leaf of the anchor log with the note it commits to (None if the note is missing)."""

    idx: int
    org_id: int
    nonce: bytes
    leaf: bytes
    note: bytes | None


class SignedTree(NamedTuple):
    """An org's tree as last signed, according to its row."""

    org_id: int
    slug: str
    size: int
    root: bytes


class IdleTree(NamedTuple):
    """A tree whose newest checkpoint was anchored long ago; ``note`` is None if it is missing."""

    org_id: int
    slug: str
    size: int
    root: bytes
    note: bytes | None


class SignerConnection:
    """The signer's session. All methods raise DatabaseUnavailable; then open a new one."""

    def __init__(self, connection: Connection, lock: RoleLock) -> None:
        self._connection = connection
        self._lock = lock

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[SignerConnection]:
        """Connect, with query plans pinned to primary key probes."""
        connection = await connect(url, name=APPLICATION, role=SIGNER_ROLE)
        try:
            lock = await RoleLock.connect(url, SIGNER_ROLE, SIGNING, name=APPLICATION)
        except BaseException:
            connection.terminate()
            raise
        try:
            async with explained():
                await connection.execute(
                    "SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;"
                    "SET max_parallel_workers_per_gather = 0; SET enable_bitmapscan = off;"
                    "SET enable_seqscan = off;"
                    "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s';"
                    # If the leader's machine fails, its lock must not last for hours.
                    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5;"
                    "SET tcp_keepalives_count = 3"
                )
            yield cls(connection, lock)
        finally:
            # The lock last: nobody leads before the transaction under way is over.
            connection.terminate()
            lock.close()

    async def lead(self) -> bool:
        """Try to become the leader; False while another signer is the leader."""
        return await self._lock.take()

    async def leader(self) -> str:
        """Describe the session of the current leader."""
        return await self._lock.holder()

    async def fetch(self, query: str, *args: object) -> list[Any]:
        """Return all rows of one query."""
        return await self._rows(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        """Run one statement and return its command tag."""
        return str(await self._run(self._connection.execute(query, *args)))

    async def pending(self, retry_s: float) -> list[PendingOrg]:
        """Return the orgs to sign, and those whose trail is shorter than its tree."""
        return [PendingOrg(*row) for row in await self._rows(PENDING, _seconds(retry_s))]

    async def shorter(
        self, sizes: Sequence[tuple[int, int]], retry_s: float
    ) -> list[tuple[int, int, int]]:
        """Return (org_id, size, length) of those (org_id, size) pairs whose trail is shorter."""
        rows = await self._rows(
            SHORTER, [org for org, _ in sizes], [size for _, size in sizes], _seconds(retry_s)
        )
        return [(row[0], row[1], row[2]) for row in rows]

    async def without_trail(self, retry_s: float) -> list[tuple[int, int]]:
        """Return the trees (org_id, size) whose head row is missing."""
        return [(row[0], row[1]) for row in await self._rows(WITHOUT_TRAIL, _seconds(retry_s))]

    async def signed_trees(self, retry_s: float) -> list[SignedTree]:
        """Return all trees of orgs that were signed and may be signed again."""
        return [SignedTree(*row) for row in await self._rows(SIGNED_TREES, _seconds(retry_s))]

    async def idle(self, seconds: float, limit: int) -> list[IdleTree]:
        """Return trees whose newest checkpoint was anchored over ``seconds`` ago, oldest first."""
        return [IdleTree(*row) for row in await self._rows(IDLE, _seconds(seconds), limit)]

    async def copy_leaves(
        self, ranges: Sequence[tuple[int, int, int]], since_us: int, sink: Sink
    ) -> None:
        """Stream leaves as binary COPY: for each (org_id, lower, upper) seqs lower to upper-1."""
        leaves = copying.leaves(self._connection, ranges, since_us, sink, timeout=COPY_TIMEOUT_S)
        await self._run(leaves)

    async def tile_parts(
        self, places: Sequence[tuple[int, int, int]]
    ) -> dict[int, list[tuple[int, int, int, bytes]]]:
        """Return parts (level, tile, start, hashes) by org, for these (org_id, level, tile)."""
        rows = await self._rows(
            EDGE_TILES,
            [org for org, _, _ in places],
            [level for _, level, _ in places],
            [tile for _, _, tile in places],
        )
        parts: dict[int, list[tuple[int, int, int, bytes]]] = {}
        for org_id, level, tile, start, hashes in rows:
            parts.setdefault(org_id, []).append((level, tile, start, hashes))
        return parts

    async def notes_at(self, sizes: Sequence[tuple[int, int]]) -> dict[int, bytes]:
        """Return the checkpoints' notes by org, for these (org_id, size)."""
        rows = await self._rows(NOTES_AT, [org for org, _ in sizes], [size for _, size in sizes])
        return {row[0]: row[1] for row in rows}

    async def tree(self, org_id: int) -> LockedTree:
        """Return a tree row without locking it; an empty tree if there is no row."""
        rows = await self._rows(TREE, [org_id])
        return LockedTree(*rows[0][:4]) if rows else LockedTree(0, b"", None, _EPOCH)

    async def anchor_rows(self, first: int, limit: int) -> list[AnchorRow]:
        """Return leaves of the anchor log from index ``first`` on, with their notes."""
        return [AnchorRow(*row) for row in await self._rows(ANCHOR_ROWS, first, limit)]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SigningTransaction]:
        """Open a transaction that commits at the end of the block.

        Raises DatabaseUnavailable, UnexpectedRows. A warning at COMMIT means that the wait for a
        synchronous standby was cut short, and counts as an error. After an error during COMMIT
        its outcome is unknown: read the trees back before signing again.
        """
        warnings: list[str] = []

        def collect_warning(_: object, message: Any) -> None:
            if message.severity_en == "WARNING":
                warnings.append(message.message)

        async with explained(), unexpected_rows():
            self._connection.add_log_listener(collect_warning)
            try:
                async with self._connection.transaction():
                    await self._connection.execute(TURN)
                    if not await self._connection.fetchval(LEADS, self._lock.pid):
                        raise DatabaseUnavailable("this signer does not lead: it lost its lock")
                    yield SigningTransaction(self._connection)
                # A crash before COMMIT took effect leaves no row of this transaction.
            finally:
                self._connection.remove_log_listener(collect_warning)
        if warnings:
            raise DatabaseUnavailable(f"COMMIT was answered with a warning: {warnings[0]}")

    async def _rows(self, query: str, *args: Any) -> list[Any]:
        rows: list[Any] = await self._run(self._connection.fetch(query, *args))
        return rows

    async def _run(self, operation: Coroutine[Any, Any, Any]) -> Any:
        async with explained():
            return await operation


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)
