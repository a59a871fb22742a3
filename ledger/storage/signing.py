"""The signer's own connection: leadership, the signing transaction, and what it reads.

Leadership is a session lock of this very connection, and each signing
transaction runs on it: a signer that lost its connection lost both, so two can
never sign at once. The tree rows are locked as well before anything is signed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg

from ledger.entry import HASH_BYTES, MAX_LEAF_BYTES, MAX_SEQ
from ledger.errors import DatabaseUnavailable, StorageError
from ledger.storage.copy_out import Sink
from ledger.storage.database import Connection, connect, explained
from ledger.storage.trail import MAX_REASON_CHARS, AppendTransaction, NotWritten

LEADER_LOCK: Final = 7_305_804_403
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
MAX_PENDING: Final = 200_000
"""Orgs looked at in one round; those left over come in the next."""
MAX_NOTE_BYTES: Final = 65_536
"""A longer note reads as none: ours have a few hundred bytes, an anchor's some thousand."""
MAX_TAKEN: Final = 100_000_000
"""Places of the anchor log that are passed over in search of a free one."""
COPY_TIMEOUT_S: Final = 600.0
"""For one batch of leaves: a line that is dead without a word must not hold leadership for long."""

# A head beyond all seqs was edited; adding one to it must not fail the query for all orgs.
_LENGTH = f"least(coalesce(h.seq, -1), {MAX_SEQ}) + 1"
# Neither stopped, nor stopped so lately that it need not be looked at again. Later than now: the
# clock was set back.
_DUE = "(t.stopped_at IS NULL OR t.stopped_at NOT BETWEEN now() - {0}::interval AND now())"
# What grew, and what is shorter than its tree. A frozen org is not signed; one that was
# stopped is looked at again after a while, as it may have been repaired. Those that waited
# longest come first, so that the limit leaves nobody out for ever.
PENDING = f"""
SELECT h.org_id, o.slug, {_LENGTH}, coalesce(t.size, 0), t.root, t.stopped_reason,
       CASE WHEN t.anchored_at BETWEEN 'epoch' AND '4253-01-01Z' THEN t.anchored_at ELSE 'epoch' END
FROM heads h
JOIN orgs o ON o.id = h.org_id
LEFT JOIN trees t ON t.org_id = h.org_id
WHERE ({_LENGTH}) <> coalesce(t.size, 0) AND h.frozen_reason IS NULL AND {_DUE.format("$1")}
ORDER BY t.signed_at NULLS FIRST LIMIT {MAX_PENDING}"""
# Trees whose trail is gone, or shorter than what the caller remembers as signed.
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
_NOTE = f"CASE WHEN octet_length(c.note) <= {MAX_NOTE_BYTES} THEN c.note END"
IDLE = f"""
SELECT t.org_id, o.slug, t.size, t.root, {_NOTE} FROM trees t
JOIN orgs o ON o.id = t.org_id
LEFT JOIN checkpoints c ON c.org_id = t.org_id AND c.size = t.size
WHERE t.size > 0 AND t.signed_at < now() - $1::interval AND t.stopped_at IS NULL
ORDER BY t.signed_at LIMIT $2"""
# COPY takes no parameters; the format admits integers only. LATERAL pins one primary key
# probe per org and partition, and the least time leaves out the partitions before it. A value
# that no writer of ours made arrives as NULL: it must not fill our memory.
COPY_LEAVES = f"""
SELECT e.org_id, e.seq, e.entry_hash, e.signature, e.leaf
FROM unnest('{{{{{{org_ids}}}}}}'::bigint[], '{{{{{{lower}}}}}}'::bigint[],
            '{{{{{{upper}}}}}}'::bigint[])
     WITH ORDINALITY AS w (org_id, lower, upper, place)
CROSS JOIN LATERAL (
    SELECT org_id, seq,
           CASE WHEN octet_length(entry_hash) = {HASH_BYTES} THEN entry_hash END AS entry_hash,
           CASE WHEN octet_length(signature) = {HASH_BYTES} THEN signature END AS signature,
           CASE WHEN octet_length(leaf) <= {MAX_LEAF_BYTES} THEN leaf END AS leaf
    FROM entries e
    WHERE e.org_id = w.org_id AND e.seq >= w.lower AND e.seq < w.upper
      AND e.anchored_at >= to_timestamp({{since_us:d}} / 1e6) - interval '1 second'
    ORDER BY e.seq, e.anchored_at
) AS e"""
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
ADD_TREES = """
INSERT INTO trees (org_id, root) SELECT unnest($1::bigint[]), ''::bytea
ON CONFLICT (org_id) DO NOTHING"""
_TREE = """
SELECT size, root, stopped_reason,
       CASE WHEN anchored_at BETWEEN 'epoch' AND '4253-01-01Z' THEN anchored_at ELSE 'epoch' END,
       org_id
FROM trees WHERE org_id = ANY ($1::bigint[]) ORDER BY org_id"""
LOCK_TREES = f"{_TREE} FOR UPDATE"
FROZEN = """
SELECT org_id FROM heads WHERE org_id = ANY ($1::bigint[]) AND frozen_reason IS NOT NULL"""
MOVE_TREES = """
UPDATE trees t SET size = n.size, root = n.root, anchored_at = n.anchored_at,
       signed_at = clock_timestamp(), stopped_at = NULL, stopped_reason = NULL
FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::timestamptz[])
     AS n (org_id, size, root, anchored_at)
WHERE t.org_id = n.org_id"""
TOUCH_TREES = "UPDATE trees SET signed_at = clock_timestamp() WHERE org_id = ANY ($1::bigint[])"
STOP_TREE = """
UPDATE trees SET stopped_at = now(), stopped_reason = $2 WHERE org_id = $1"""
ANCHOR_ROWS = f"""
SELECT a.idx, a.org_id, a.nonce, a.leaf, {_NOTE}
FROM anchor_leaves a LEFT JOIN checkpoints c ON c.org_id = a.org_id AND c.size = a.size
WHERE a.idx >= $1 ORDER BY a.idx LIMIT $2"""
# The first places that are free, from one on below which all are taken. Whoever planted a row
# further up has not made a gap before it.
FREE_ANCHOR_LEAVES = f"""
SELECT place FROM (
    SELECT generate_series(f.first, f.first + {MAX_TAKEN}) AS place
    FROM (SELECT coalesce($1::bigint, (SELECT size FROM trees WHERE org_id = 0), 0) AS first) AS f
) AS p
WHERE NOT EXISTS (SELECT FROM anchor_leaves a WHERE a.idx = p.place) LIMIT $2"""
ADD_EVENT = "INSERT INTO security_events (org_id, kind, detail) VALUES ($1, $2, $3)"


class Pending(NamedTuple):
    """An org whose trail (of ``length`` entries) is not as long as its signed tree."""

    org_id: int
    slug: str
    length: int
    size: int
    root: bytes | None
    stopped: str | None
    since: datetime


class LockedTree(NamedTuple):
    """A tree row; ``stopped`` says why it is not signed, or None."""

    size: int
    root: bytes
    stopped: str | None
    anchored_at: datetime


class Part(NamedTuple):
    """New hashes of one tile, as its row is stored."""

    org_id: int
    level: int
    tile: int
    start: int
    hashes: bytes


class Signed(NamedTuple):
    """A checkpoint to be stored, with the time of the newest entry it covers."""

    org_id: int
    size: int
    root: bytes
    note: bytes
    anchored_at: datetime


class AnchorRow(NamedTuple):
    """A leaf of the anchor log with the note it commits to (None where that is gone)."""

    idx: int
    org_id: int
    nonce: bytes
    leaf: bytes
    note: bytes | None


class Idle(NamedTuple):
    """A tree whose newest checkpoint was anchored longest ago; ``note`` None where that is gone."""

    org_id: int
    slug: str
    size: int
    root: bytes
    note: bytes | None


class RowsInTheWay(StorageError):
    """Rows of ``table`` stand where the signer was about to add some: it did not write them."""

    def __init__(self, table: str | None, detail: str | None) -> None:
        super().__init__(f"a row of {table} stands where the signer was about to add one: {detail}")
        self.table = table


class SignerConnection:
    """One session of the database. Every method raises DatabaseUnavailable; then open another."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[SignerConnection]:
        """Connect, with plans pinned to primary key probes."""
        connection = await connect(url)
        try:
            async with explained():
                await connection.execute(
                    "SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;"
                    "SET max_parallel_workers_per_gather = 0; SET enable_bitmapscan = off;"
                    "SET enable_seqscan = off;"
                    "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s';"
                    # A leader whose machine is gone must not hold the lock for hours.
                    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5;"
                    "SET tcp_keepalives_count = 3"
                )
            yield cls(connection)
        finally:
            connection.terminate()

    async def lead(self) -> bool:
        """Become the leader; False while another signer is."""
        return bool(await self._value("SELECT pg_try_advisory_lock($1)", LEADER_LOCK))

    async def fetch(self, query: str, *args: object) -> list[Any]:
        """All rows of one query."""
        return await self._rows(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        """Run one statement; returns its command tag."""
        return str(await self._run(self._connection.execute(query, *args)))

    async def pending(self, retry_s: float) -> list[Pending]:
        """Orgs that are to be signed or whose trail is shorter than its tree."""
        return [Pending(*row) for row in await self._rows(PENDING, _seconds(retry_s))]

    async def shorter(
        self, sizes: Sequence[tuple[int, int]], retry_s: float
    ) -> list[tuple[int, int, int]]:
        """Of these (org_id, size) pairs, those whose trail is shorter: with its length."""
        rows = await self._rows(
            SHORTER, [org for org, _ in sizes], [size for _, size in sizes], _seconds(retry_s)
        )
        return [(row[0], row[1], row[2]) for row in rows]

    async def without_trail(self, retry_s: float) -> list[tuple[int, int]]:
        """Trees (org_id, size) of which no head row is left."""
        return [(row[0], row[1]) for row in await self._rows(WITHOUT_TRAIL, _seconds(retry_s))]

    async def idle(self, seconds: float, limit: int) -> list[Idle]:
        """Trees whose newest checkpoint was anchored longest ago."""
        return [Idle(*row) for row in await self._rows(IDLE, _seconds(seconds), limit)]

    async def copy_leaves(
        self, ranges: Sequence[tuple[int, int, int]], since_us: int, sink: Sink
    ) -> None:
        """Stream leaves as binary COPY: for each (org_id, lower, upper) the seqs lower to upper-1."""
        query = COPY_LEAVES.format(
            org_ids=_integers(org for org, _, _ in ranges),
            lower=_integers(lower for _, lower, _ in ranges),
            upper=_integers(upper for _, _, upper in ranges),
            since_us=since_us,
        )
        await self._run(
            self._connection.copy_from_query(
                query, output=sink, format="binary", timeout=COPY_TIMEOUT_S
            )
        )

    async def tile_parts(
        self, places: Sequence[tuple[int, int, int]]
    ) -> dict[int, list[tuple[int, int, int, bytes]]]:
        """Parts (level, tile, start, hashes) by org, for these (org_id, level, tile)."""
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
        """The checkpoints' notes by org, for these (org_id, size)."""
        rows = await self._rows(NOTES_AT, [org for org, _ in sizes], [size for _, size in sizes])
        return {row[0]: row[1] for row in rows}

    async def tree(self, org_id: int) -> LockedTree:
        """A tree row as it stands, not locked; an empty tree where there is none."""
        rows = await self._rows(_TREE, [org_id])
        return LockedTree(*rows[0][:4]) if rows else LockedTree(0, b"", None, _EPOCH)

    async def anchor_rows(self, first: int, limit: int) -> list[AnchorRow]:
        """Leaves of the anchor log from index ``first`` on, with their notes."""
        return [AnchorRow(*row) for row in await self._rows(ANCHOR_ROWS, first, limit)]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SigningTransaction]:
        """A transaction that commits when the block ends.

        Raises DatabaseUnavailable, RowsInTheWay. After an error while COMMIT was under way nobody
        knows whether it took effect: read the trees back before signing on.
        """
        async with explained(), _rows_in_the_way(), self._connection.transaction():
            yield SigningTransaction(self._connection)

    async def _rows(self, query: str, *args: Any) -> list[Any]:
        rows: list[Any] = await self._run(self._connection.fetch(query, *args))
        return rows

    async def _value(self, query: str, *args: Any) -> Any:
        return await self._run(self._connection.fetchval(query, *args))

    async def _run(self, operation: Coroutine[Any, Any, Any]) -> Any:
        async with explained():
            return await operation


class SigningTransaction:
    """What is written together: parts of tiles, checkpoints, anchor leaves, tree rows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock_trees(self, org_ids: Sequence[int]) -> dict[int, LockedTree]:
        """Lock the tree rows, made where they are missing, in the order of their ids."""
        ordered = sorted(org_ids)
        await self._connection.execute(ADD_TREES, ordered)
        rows = await self._connection.fetch(LOCK_TREES, ordered)
        return {row[4]: LockedTree(*row[:4]) for row in rows}

    async def frozen(self, org_ids: Sequence[int]) -> set[int]:
        """Of these, the orgs that are frozen by now."""
        return {row[0] for row in await self._connection.fetch(FROZEN, org_ids)}

    async def add_parts(self, parts: Iterable[Part]) -> None:
        """Store new hashes of tiles."""
        await self._connection.copy_records_to_table(
            "tile_parts", records=parts, columns=Part._fields
        )

    async def add_checkpoints(self, signed: Sequence[Signed]) -> None:
        """Store checkpoints and move their tree rows."""
        await self._connection.copy_records_to_table(
            "checkpoints",
            records=[(one.org_id, one.size, one.root, one.note) for one in signed],
            columns=("org_id", "size", "root", "note"),
        )
        await self._connection.execute(
            MOVE_TREES,
            [one.org_id for one in signed],
            [one.size for one in signed],
            [one.root for one in signed],
            [one.anchored_at for one in signed],
        )

    async def free_anchor_leaves(self, first: int | None, count: int) -> list[int]:
        """The next ``count`` free indexes of the anchor log, where all below ``first`` are taken.

        None: look from its signed size on.
        """
        rows = await self._connection.fetch(FREE_ANCHOR_LEAVES, first, count)
        return [row[0] for row in rows]

    async def add_anchor_leaves(self, leaves: Sequence[tuple[int, int, int, bytes, bytes]]) -> None:
        """Store leaves (idx, org_id, size, nonce, leaf) of the anchor log."""
        await self._connection.copy_records_to_table(
            "anchor_leaves", records=leaves, columns=("idx", "org_id", "size", "nonce", "leaf")
        )

    async def touch(self, org_ids: Sequence[int]) -> None:
        """Note that the newest checkpoints of these trees were anchored again."""
        await self._connection.execute(TOUCH_TREES, org_ids)

    async def stop(self, org_id: int, reason: str) -> None:
        """Keep why a tree is not signed; signing it again clears this."""
        await self._connection.execute(STOP_TREE, org_id, _storable(reason))

    async def freeze(self, org_id: int, reason: str) -> None:
        """Freeze the org, with its security event."""
        try:
            await AppendTransaction(self._connection).freeze(org_id, _storable(reason))
        except NotWritten as error:
            raise DatabaseUnavailable(str(error)) from error

    async def add_event(self, org_id: int | None, kind: str, detail: str) -> None:
        """Keep a security event."""
        await self._connection.execute(ADD_EVENT, org_id, kind, _storable(detail))

    async def announce(self) -> None:
        """Tell listeners, when this commits, that trees have grown."""
        await self._connection.execute("NOTIFY quire_checkpoints")


@asynccontextmanager
async def _rows_in_the_way() -> AsyncIterator[None]:
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise RowsInTheWay(error.table_name, error.detail) from error


def _storable(text: str) -> str:
    """A reason quotes what it found: PostgreSQL's text holds no NUL, and UTF-8 no half a pair."""
    text = text.replace("\x00", "\ufffd")[:MAX_REASON_CHARS]
    return text.encode("utf-8", "replace").decode()


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def _integers(values: Iterable[int]) -> str:
    return ",".join(f"{value:d}" for value in values)
