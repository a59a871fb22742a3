"""Reading signed trees: tiles, checkpoints, anchors.

Nothing here computes a hash: what is served is what was stored when the
checkpoint that covers it was signed. Readers who must not trust the database
verify what they get.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from ledger.entry import HASH_BYTES
from ledger.errors import StorageError
from ledger.storage import tree_out
from ledger.storage.database import Database
from ledger.tiles import Tile

ANCHOR_LOG: Final = tree_out.ANCHOR_LOG

TREE = """
SELECT size, root, stopped_reason FROM trees WHERE org_id = $1"""
TILE_PARTS = """
SELECT p.level, p.tile, p.start, p.hashes
FROM unnest($2::smallint[], $3::bigint[]) AS w (level, tile)
CROSS JOIN LATERAL (
    SELECT level, tile, start, hashes FROM tile_parts t
    WHERE t.org_id = $1 AND t.level = w.level AND t.tile = w.tile
    ORDER BY start LIMIT 256
) AS p"""
_CHECKPOINT = "SELECT size, root, note, signed_at FROM checkpoints WHERE org_id = $1"
# Up to where the tree is signed: a row planted beyond that is no checkpoint.
_SIGNED = "size <= (SELECT size FROM trees WHERE org_id = $1)"
NEWEST_CHECKPOINT = f"{_CHECKPOINT} AND {_SIGNED} ORDER BY size DESC LIMIT 1"
CHECKPOINT_AT = f"{_CHECKPOINT} AND size = $2"
FIRST_CHECKPOINT_ABOVE = f"{_CHECKPOINT} AND {_SIGNED} AND size > $2 ORDER BY size LIMIT 1"
ANCHOR_LEAF = """
SELECT idx, org_id, size, nonce, leaf FROM anchor_leaves
WHERE org_id = $1 AND size = $2 ORDER BY idx LIMIT 1"""
TOKENS = "SELECT token, gen_time, added_at FROM anchor_tokens WHERE size = $1 ORDER BY added_at"
COSIGNATURES = """
SELECT witness, line, added_at FROM anchor_cosignatures WHERE size = $1 ORDER BY added_at"""

# A witness that cosigned twice is shown once, with what it said last.
NEWEST_COSIGNATURES = """
SELECT DISTINCT ON (witness) witness, line, added_at FROM anchor_cosignatures
WHERE size = $1 ORDER BY witness, added_at DESC"""
SIGNING_STATE = f"""
SELECT coalesce(sum(greatest(h.seq + 1 - coalesce(t.size, 0), 0)), 0)::bigint,
       (SELECT count(*) FROM trees WHERE stopped_at IS NOT NULL),
       (SELECT coalesce(extract(epoch FROM max(signed_at)), 0)::float8 FROM (
            SELECT signed_at FROM checkpoints WHERE org_id = {ANCHOR_LOG}
            ORDER BY size DESC LIMIT 1) AS newest)
FROM heads h LEFT JOIN trees t ON t.org_id = h.org_id"""


class SigningState(NamedTuple):
    """How signing stands over all orgs: entries unsigned, trees stopped, newest anchor (POSIX s)."""

    unsigned: int
    stopped: int
    anchored_s: float


class Tree(NamedTuple):
    """The signed state of one tree; ``stopped`` says why signing stopped, or None."""

    size: int
    root: bytes
    stopped: str | None


class StoredCheckpoint(NamedTuple):
    """One signed tree head; ``note`` is the C2SP signed note."""

    size: int
    root: bytes
    note: bytes
    signed_at: datetime


class AnchorLeaf(NamedTuple):
    """A leaf of the anchor log: the blinded digest of an org's checkpoint of this size."""

    idx: int
    org_id: int
    size: int
    nonce: bytes
    leaf: bytes


class StoredToken(NamedTuple):
    """An RFC 3161 token over an anchor's note."""

    token: bytes
    gen_time: datetime
    added_at: datetime


class StoredCosignature(NamedTuple):
    """A witness's signature line for an anchor."""

    witness: str
    line: bytes
    added_at: datetime


class MissingTile(StorageError):
    """A tile that the signed size calls for is absent or shorter than it must be."""


async def signing_state(database: Database) -> SigningState:
    """How signing stands, for those who watch it."""
    row = await database.fetchrow(SIGNING_STATE)
    return SigningState(*row) if row else SigningState(0, 0, 0.0)


async def tree(database: Database, org_id: int) -> Tree | None:
    """The signed state of a tree, or None before its first checkpoint."""
    row = await database.fetchrow(TREE, org_id)
    return None if row is None else Tree(*row)


async def tiles(database: Database, org_id: int, wanted: Iterable[Tile]) -> dict[Tile, bytes]:
    """These tiles, each cut to its width. Raises MissingTile."""
    asked = list(dict.fromkeys(wanted))
    places = sorted({(tile.level, tile.index) for tile in asked})
    rows = await database.fetch(
        TILE_PARTS, org_id, [level for level, _ in places], [index for _, index in places]
    )
    whole = join_parts(rows)
    return {tile: _cut(whole, tile) for tile in asked}


def join_parts(rows: Sequence[Any]) -> dict[tuple[int, int], bytes]:
    """Tiles from their parts (level, tile, start, hashes) in order of start.

    A part that does not begin where the one before it ended ends its tile.
    """
    whole: dict[tuple[int, int], bytes] = {}
    for level, index, start, hashes in rows:
        before = whole.get((level, index), b"")
        if len(before) == start * HASH_BYTES:
            whole[level, index] = before + hashes
    return whole


def _cut(whole: dict[tuple[int, int], bytes], tile: Tile) -> bytes:
    data = whole.get((tile.level, tile.index), b"")[: tile.width * HASH_BYTES]
    if len(data) != tile.width * HASH_BYTES:
        raise MissingTile(
            f"{tile.path()} is not stored whole: {len(data) // HASH_BYTES} of {tile.width} hashes. "
            "Run a full verification of this trail"
        )
    return data


async def newest_checkpoint(database: Database, org_id: int) -> StoredCheckpoint | None:
    """The newest checkpoint of a tree, or None before its first."""
    return _one(await database.fetchrow(NEWEST_CHECKPOINT, org_id))


async def checkpoint_at(database: Database, org_id: int, size: int) -> StoredCheckpoint | None:
    """The checkpoint of exactly this size, or None."""
    return _one(await database.fetchrow(CHECKPOINT_AT, org_id, size))


async def first_checkpoint_above(
    database: Database, org_id: int, index: int
) -> StoredCheckpoint | None:
    """The first checkpoint that includes the leaf of this index, or None until it is signed."""
    return _one(await database.fetchrow(FIRST_CHECKPOINT_ABOVE, org_id, index))


async def anchor_leaf(database: Database, org_id: int, size: int) -> AnchorLeaf | None:
    """The first leaf by which the anchor log commits to this checkpoint, or None."""
    row = await database.fetchrow(ANCHOR_LEAF, org_id, size)
    return None if row is None else AnchorLeaf(*row)


async def tokens(database: Database, anchor_size: int) -> list[StoredToken]:
    """The timestamp tokens of an anchor, oldest first."""
    return [StoredToken(*row) for row in await database.fetch(TOKENS, anchor_size)]


async def cosignatures(database: Database, anchor_size: int) -> list[StoredCosignature]:
    """The witnesses' signature lines for an anchor, oldest first."""
    return [StoredCosignature(*row) for row in await database.fetch(COSIGNATURES, anchor_size)]


async def newest_cosignatures(database: Database, anchor_size: int) -> list[StoredCosignature]:
    """The newest cosignature of each witness of an anchor, by name."""
    rows = await database.fetch(NEWEST_COSIGNATURES, anchor_size)
    return [StoredCosignature(*row) for row in rows]


def _one(row: Any) -> StoredCheckpoint | None:
    return None if row is None else StoredCheckpoint(*row)
