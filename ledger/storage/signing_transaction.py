"""The signer's writes in one transaction: tree rows, tiles, checkpoints, anchor leaves, stops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg

from ledger.errors import DatabaseUnavailable, StorageError
from ledger.merkle import TILE_HEIGHT, TILE_WIDTH
from ledger.storage import security_events
from ledger.storage.database import Connection
from ledger.storage.security_events import storable
from ledger.storage.trail import AppendTransaction, NotWritten

MAX_TAKEN: Final = 100_000_000
"""Number of taken indexes of the anchor log that the search for a free one skips."""

ADD_TREES = """
INSERT INTO trees (org_id, root) SELECT unnest($1::bigint[]), ''::bytea
ON CONFLICT (org_id) DO NOTHING"""
TREE = """
SELECT size, root, stopped_reason,
       CASE WHEN anchored_at BETWEEN 'epoch' AND '4253-01-01Z' THEN anchored_at ELSE 'epoch' END,
       org_id
FROM trees WHERE org_id = ANY ($1::bigint[]) ORDER BY org_id"""
LOCK_TREES = f"{TREE} FOR UPDATE"
FROZEN = """
SELECT org_id FROM heads WHERE org_id = ANY ($1::bigint[]) AND frozen_reason IS NOT NULL"""
MOVE_TREES = """
UPDATE trees t SET size = n.size, root = n.root, anchored_at = n.anchored_at,
       signed_at = clock_timestamp(), stopped_at = NULL, stopped_reason = NULL
FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::timestamptz[])
     AS n (org_id, size, root, anchored_at)
WHERE t.org_id = n.org_id"""
TOUCH_TREES = "UPDATE trees SET signed_at = clock_timestamp() WHERE org_id = ANY ($1::bigint[])"
SHORT_WAIT = "SET LOCAL lock_timeout = '500ms'"
"""Appends hold a head for some milliseconds; a longer wait would hold up the other orgs."""
STOP_TREE = """
UPDATE trees SET stopped_at = now(), stopped_reason = $2 WHERE org_id = $1"""
# The first free indexes, from an index on below which all are taken. A planted row further up
# causes no gap below it.
FREE_ANCHOR_LEAVES = f"""
SELECT place FROM (
    SELECT generate_series(f.first, f.first + {MAX_TAKEN}) AS place
    FROM (SELECT coalesce($1::bigint, least(greatest(t.size, 0), 1::bigint << 62), 0) AS first
          FROM (VALUES (0)) AS o LEFT JOIN trees t ON t.org_id = 0) AS f
) AS p
WHERE NOT EXISTS (SELECT FROM anchor_leaves a WHERE a.idx = p.place) LIMIT $2"""


class LockedTree(NamedTuple):
    """A tree row; ``stopped`` is the reason why it is not signed, or None."""

    size: int
    root: bytes
    stopped: str | None
    anchored_at: datetime


class TilePart(NamedTuple):
    """One row of the table ``tile_parts``: new hashes of one tile."""

    org_id: int
    level: int
    tile: int
    start: int
    hashes: bytes


class NewCheckpoint(NamedTuple):
    """A checkpoint to store, with the time of the newest entry that it covers."""

    org_id: int
    size: int
    root: bytes
    note: bytes
    anchored_at: datetime


class UnexpectedRows(StorageError):
    """Rows of ``table``, not written by the signer, have the keys of rows that it was adding."""

    def __init__(self, table: str | None, detail: str | None) -> None:
        super().__init__(
            f"the table {table} already has a row that the signer was adding: {detail}"
        )
        self.table = table


class SigningTransaction:
    """Writes parts of tiles, checkpoints, anchor leaves and tree rows in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock_trees(self, org_ids: Sequence[int]) -> dict[int, LockedTree]:
        """Lock the tree rows, in the order of their ids; missing rows are created."""
        ordered = sorted(org_ids)
        await self._connection.execute(ADD_TREES, ordered)
        rows = await self._connection.fetch(LOCK_TREES, ordered)
        return {row[4]: LockedTree(*row[:4]) for row in rows}

    async def frozen(self, org_ids: Sequence[int]) -> set[int]:
        """Return those of the orgs that are frozen."""
        return {row[0] for row in await self._connection.fetch(FROZEN, org_ids)}

    async def add_parts(self, parts: Iterable[TilePart]) -> None:
        """Store new hashes of tiles."""
        await self._connection.copy_records_to_table(
            "tile_parts", records=parts, columns=TilePart._fields
        )

    async def add_checkpoints(self, signed: Sequence[NewCheckpoint]) -> None:
        """Store checkpoints and move their tree rows."""
        await self._connection.copy_records_to_table(
            "checkpoints",
            records=[(new.org_id, new.size, new.root, new.note) for new in signed],
            columns=("org_id", "size", "root", "note"),
        )
        await self._connection.execute(
            MOVE_TREES,
            [new.org_id for new in signed],
            [new.size for new in signed],
            [new.root for new in signed],
            [new.anchored_at for new in signed],
        )

    async def free_anchor_leaves(self, first: int | None, count: int) -> list[int]:
        """Return the next ``count`` free indexes of the anchor log; all below ``first`` are taken.

        None: search from the log's signed size on.
        """
        rows = await self._connection.fetch(FREE_ANCHOR_LEAVES, first, count)
        return [row[0] for row in rows]

    async def add_anchor_leaves(self, leaves: Sequence[tuple[int, int, int, bytes, bytes]]) -> None:
        """Store leaves (idx, org_id, size, nonce, leaf) of the anchor log."""
        await self._connection.copy_records_to_table(
            "anchor_leaves", records=leaves, columns=("idx", "org_id", "size", "nonce", "leaf")
        )

    async def touch(self, org_ids: Sequence[int]) -> None:
        """Record that the newest checkpoints of these trees were anchored again."""
        await self._connection.execute(TOUCH_TREES, org_ids)

    async def stop(self, org_id: int, reason: str) -> None:
        """Store the reason why a tree is not signed; signing it again clears the reason."""
        await self._connection.execute(STOP_TREE, org_id, storable(reason))

    async def freeze(self, org_id: int, reason: str) -> bool:
        """Freeze the org, with its security event; False if another session holds its head."""
        try:
            async with self._connection.transaction():
                await self._connection.execute(SHORT_WAIT)
                await AppendTransaction(self._connection).freeze(org_id, storable(reason))
        except NotWritten as error:
            if isinstance(error.__cause__, asyncpg.LockNotAvailableError):
                return False
            raise DatabaseUnavailable(str(error)) from error
        return True

    async def add_event(self, org_id: int | None, kind: str, detail: str) -> None:
        """Store a security event."""
        await security_events.add(self._connection, org_id, kind, storable(detail))

    async def announce(self) -> None:
        """Notify listeners, once this commits, that trees have grown."""
        await self._connection.execute("NOTIFY quire_checkpoints")


@asynccontextmanager
async def unexpected_rows() -> AsyncIterator[None]:
    """Turn a violation of a unique constraint into UnexpectedRows."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise UnexpectedRows(error.table_name, error.detail) from error


def parts_of(org_id: int, size: int, new: Mapping[int, Sequence[bytes]]) -> Iterator[TilePart]:
    """Yield the rows for the hashes that extending a tree of ``size`` leaves added, by level."""
    for level, hashes in new.items():
        at, index = 0, size >> TILE_HEIGHT * level
        while at < len(hashes):
            tile, start = divmod(index, TILE_WIDTH)
            part = hashes[at : at + TILE_WIDTH - start]
            yield TilePart(org_id, level, tile, start, b"".join(part))
            at += len(part)
            index += len(part)
