"""Reading whole signed trees, under the snapshot of a verification.

The tables are not trusted here: values that are too large are read as NULL, ranges
are read in order, and only the tiles of one segment are kept in memory.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final, NamedTuple

from ledger.storage.database import Connection, explained

ANCHOR_LOG: Final = 0
"""The org_id under which the anchor log keeps its tree, tiles and checkpoints."""
MAX_NOTE_BYTES: Final = 65_536
"""Quire writes no larger note: an anchor with both signatures has some 3,500 bytes."""
MAX_TOKEN_BYTES: Final = 262_144
PREFETCH_ROWS: Final = 200

_NOTE: Final = f"CASE WHEN octet_length(c.note) <= {MAX_NOTE_BYTES} THEN c.note END"
TILE_PARTS: Final = """
SELECT tile, start, CASE WHEN octet_length(hashes) <= 8192 THEN hashes END
FROM tile_parts WHERE org_id = $1 AND level = $2 AND tile BETWEEN $3 AND $4
ORDER BY tile, start"""
BEYOND: Final = """
SELECT tile FROM tile_parts WHERE org_id = $1 AND level = $2 AND tile >= $3
ORDER BY tile LIMIT 1"""
HEADS: Final = f"""
SELECT c.size, c.root, {_NOTE}, a.idx, a.nonce, a.leaf
FROM checkpoints c LEFT JOIN anchor_leaves a ON a.org_id = c.org_id AND a.size = c.size
WHERE c.org_id = $1 AND c.size > $2 AND c.size <= $3
ORDER BY c.size"""
NEWEST: Final = f"""
SELECT c.size, c.root, {_NOTE} FROM checkpoints c WHERE c.org_id = $1 AND c.size < $2
ORDER BY c.size DESC LIMIT $3"""
LEAVES: Final = """
SELECT idx, CASE WHEN octet_length(leaf) <= 32 THEN leaf END
FROM anchor_leaves WHERE idx BETWEEN $1 AND $2 ORDER BY idx"""
LAST_LEAF: Final = "SELECT idx FROM anchor_leaves WHERE idx < $1 ORDER BY idx DESC LIMIT 1"
LEAF_COUNT: Final = "SELECT count(*) FROM anchor_leaves WHERE idx >= 0 AND idx < $1"
ORPHANS: Final = """
SELECT a.size, a.idx FROM anchor_leaves a
WHERE a.org_id = $1
  AND NOT EXISTS (SELECT FROM checkpoints c WHERE c.org_id = a.org_id AND c.size = a.size)
ORDER BY a.size, a.idx LIMIT $2"""
ANCHORED: Final = "SELECT EXISTS (SELECT FROM anchor_leaves WHERE org_id = $1 AND idx < $2)"
COVERED: Final = """
SELECT size FROM anchor_leaves WHERE org_id = $1 AND idx < $2 AND size <= $3
ORDER BY size DESC, idx DESC LIMIT 1"""
TREE: Final = "SELECT size, root FROM trees WHERE org_id = $1"
TOKENS: Final = f"""
SELECT t.size, {_NOTE}, CASE WHEN octet_length(t.token) <= {MAX_TOKEN_BYTES} THEN t.token END
FROM anchor_tokens t LEFT JOIN checkpoints c ON c.org_id = 0 AND c.size = t.size
WHERE t.size > $1 AND t.size <= $2 ORDER BY t.size, t.added_at"""
COSIGNATURES: Final = f"""
SELECT s.size, {_NOTE}, CASE WHEN octet_length(s.line) <= {MAX_NOTE_BYTES} THEN s.line END
FROM anchor_cosignatures s LEFT JOIN checkpoints c ON c.org_id = 0 AND c.size = s.size
WHERE s.size > $1 AND s.size <= $2 ORDER BY s.size, s.added_at"""

FIRST_LEAF: Final = """
SELECT idx FROM anchor_leaves WHERE org_id = $1 AND size > $2 ORDER BY size, idx LIMIT 1"""
NEWEST_TOKENS: Final = TOKENS.replace("ORDER BY t.size,", "ORDER BY t.size DESC,")
NEWEST_COSIGNATURES: Final = COSIGNATURES.replace("ORDER BY s.size,", "ORDER BY s.size DESC,")


class StoredHead(NamedTuple):
    """A stored checkpoint, and one leaf by which the anchor log commits to it.

    Repeated for each of its leaves; without a leaf ``idx``, ``nonce`` and ``leaf`` are None.
    """

    size: int
    root: bytes
    note: bytes | None
    idx: int | None
    nonce: bytes | None
    leaf: bytes | None


class Attestation(NamedTuple):
    """A token or cosignature of an anchor, and the anchor's note; None for a missing value."""

    size: int
    note: bytes | None
    data: bytes | None


class TreeReader:
    """Reads trees on a connection with a snapshot; one call at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def tiles(self, org_id: int, level: int, first: int, last: int) -> dict[int, bytes]:
        """Return tiles by index, each up to the first gap between its parts."""
        whole: dict[int, list[bytes]] = {}
        widths: dict[int, int] = {}
        async for tile, start, hashes in self._rows(TILE_PARTS, org_id, level, first, last):
            if hashes is not None and widths.get(tile, 0) == start * 32:
                whole.setdefault(tile, []).append(hashes)
                widths[tile] = widths.get(tile, 0) + len(hashes)
        return {tile: b"".join(parts) for tile, parts in whole.items()}

    async def tile_beyond(self, org_id: int, level: int, first: int) -> int | None:
        """Return the index of a level's first tile at or after ``first``, or None."""
        async with explained():
            tile: int | None = await self._connection.fetchval(BEYOND, org_id, level, first)
        return tile

    async def heads(self, org_id: int, above: int, until: int) -> AsyncIterator[StoredHead]:
        """Yield the checkpoints of sizes above ``above`` up to ``until``, smallest first."""
        async for row in self._rows(HEADS, org_id, above, until):
            yield StoredHead(*row)

    async def newest(
        self, org_id: int, below: int, limit: int
    ) -> list[tuple[int, bytes, bytes | None]]:
        """Return size, root and note of the largest checkpoints below a size, largest first."""
        async with explained():
            rows = await self._connection.fetch(NEWEST, org_id, below, limit)
        return [(size, root, note) for size, root, note in rows]

    async def tree(self, org_id: int) -> tuple[int, bytes] | None:
        """Return size and root of the tree's row, or None."""
        async with explained():
            row = await self._connection.fetchrow(TREE, org_id)
        return None if row is None else (row["size"], row["root"])

    async def leaves(self, first: int, last: int) -> AsyncIterator[tuple[int, bytes | None]]:
        """Yield index and leaf of the anchor log, in order."""
        async for idx, leaf in self._rows(LEAVES, first, last):
            yield idx, leaf

    async def last_leaf(self, below: int) -> int:
        """Return the index of the anchor log's last leaf below an index, -1 if there is none."""
        async with explained():
            idx: int | None = await self._connection.fetchval(LAST_LEAF, below)
        return -1 if idx is None else idx

    async def leaf_count(self, below: int) -> int:
        """Return the number of the anchor log's leaves below an index."""
        async with explained():
            count: int = await self._connection.fetchval(LEAF_COUNT, below)
        return count

    async def orphans(self, org_id: int, limit: int) -> list[tuple[int, int]]:
        """Return size and anchor-log index of anchored checkpoints that are missing."""
        async with explained():
            rows = await self._connection.fetch(ORPHANS, org_id, limit)
        return [(size, idx) for size, idx in rows]

    async def is_anchored(self, org_id: int, anchor_size: int) -> bool:
        """Return whether an anchor of this size covers a checkpoint of the org."""
        async with explained():
            anchored: bool = await self._connection.fetchval(ANCHORED, org_id, anchor_size)
        return anchored

    async def covered(self, org_id: int, anchor_size: int, most: int) -> int:
        """Return the size of the largest checkpoint up to ``most`` in this anchor; 0 if none."""
        async with explained():
            size: int | None = await self._connection.fetchval(COVERED, org_id, anchor_size, most)
        return size or 0

    async def first_leaf(self, org_id: int, above: int) -> int | None:
        """Return the index of the first leaf for the smallest checkpoint above a size, or None."""
        async with explained():
            idx: int | None = await self._connection.fetchval(FIRST_LEAF, org_id, above)
        return idx

    async def tokens(
        self, above: int, until: int, *, newest_first: bool = False
    ) -> AsyncGenerator[Attestation]:
        """Yield the timestamp tokens of anchors of sizes above ``above`` up to ``until``."""
        async for row in self._rows(NEWEST_TOKENS if newest_first else TOKENS, above, until):
            yield Attestation(*row)

    async def cosignatures(
        self, above: int, until: int, *, newest_first: bool = False
    ) -> AsyncGenerator[Attestation]:
        """Yield the witnesses' lines for anchors of sizes above ``above`` up to ``until``."""
        query = NEWEST_COSIGNATURES if newest_first else COSIGNATURES
        async for row in self._rows(query, above, until):
            yield Attestation(*row)

    async def _rows(self, query: str, *values: Any) -> AsyncIterator[Any]:
        async with explained():
            async for row in self._connection.cursor(query, *values, prefetch=PREFETCH_ROWS):
                yield row
