"""Reading signed trees: tiles, checkpoints, anchors.

Nothing here computes a hash: the data is returned as stored when its checkpoint
was signed. Readers that must not trust the database verify the data.
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
# Up to the signed size: a row planted beyond it is not a checkpoint.
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
    """The state of signing over all orgs; ``anchored_s`` is the newest anchor's POSIX time."""

    unsigned: int
    stopped: int
    anchored_s: float


class Tree(NamedTuple):
    """The signed state of one tree; ``stopped`` is the reason why signing stopped, or None."""

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
    """A tile that the signed size requires is missing or too short."""


async def signing_state(database: Database) -> SigningState:
    """Return the state of signing over all orgs, for monitoring."""
    row = await database.fetchrow(SIGNING_STATE)
    return SigningState(*row) if row else SigningState(0, 0, 0.0)


async def tree(database: Database, org_id: int) -> Tree | None:
    """Return the signed state of a tree, or None before its first checkpoint."""
    row = await database.fetchrow(TREE, org_id)
    return None if row is None else Tree(*row)


async def tiles(database: Database, org_id: int, requested: Iterable[Tile]) -> dict[Tile, bytes]:
    """Return these tiles, each cut to its width. Raises MissingTile."""
    distinct = list(dict.fromkeys(requested))
    places = sorted({(tile.level, tile.index) for tile in distinct})
    rows = await database.fetch(
        TILE_PARTS, org_id, [level for level, _ in places], [index for _, index in places]
    )
    whole = join_parts(rows)
    return {tile: _cut(whole, tile) for tile in distinct}


def join_parts(rows: Sequence[Any]) -> dict[tuple[int, int], bytes]:
    """Join tiles from their parts (level, tile, start, hashes) in order of start.

    A tile ends at the first gap between its parts.
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
            f"{tile.path()} is incomplete: {len(data) // HASH_BYTES} of {tile.width} hashes are "
            "stored. Run a full verification of this trail"
        )
    return data


async def newest_checkpoint(database: Database, org_id: int) -> StoredCheckpoint | None:
    """Return the newest checkpoint of a tree, or None before its first."""
    return _checkpoint(await database.fetchrow(NEWEST_CHECKPOINT, org_id))


async def checkpoint_at(database: Database, org_id: int, size: int) -> StoredCheckpoint | None:
    """Return the checkpoint of exactly this size, or None."""
    return _checkpoint(await database.fetchrow(CHECKPOINT_AT, org_id, size))


async def first_checkpoint_above(
    database: Database, org_id: int, index: int
) -> StoredCheckpoint | None:
    """Return the first checkpoint that includes the leaf of this index, or None."""
    return _checkpoint(await database.fetchrow(FIRST_CHECKPOINT_ABOVE, org_id, index))


async def anchor_leaf(database: Database, org_id: int, size: int) -> AnchorLeaf | None:
    """Return the first leaf by which the anchor log commits to this checkpoint, or None."""
    row = await database.fetchrow(ANCHOR_LEAF, org_id, size)
    return None if row is None else AnchorLeaf(*row)


async def tokens(database: Database, anchor_size: int) -> list[StoredToken]:
    """Return the timestamp tokens of an anchor, oldest first."""
    return [StoredToken(*row) for row in await database.fetch(TOKENS, anchor_size)]


async def cosignatures(database: Database, anchor_size: int) -> list[StoredCosignature]:
    """Return the witnesses' signature lines for an anchor, oldest first."""
    return [StoredCosignature(*row) for row in await database.fetch(COSIGNATURES, anchor_size)]


async def newest_cosignatures(database: Database, anchor_size: int) -> list[StoredCosignature]:
    """Return the newest cosignature of each witness of an anchor, by name."""
    rows = await database.fetch(NEWEST_COSIGNATURES, anchor_size)
    return [StoredCosignature(*row) for row in rows]


def _checkpoint(row: Any) -> StoredCheckpoint | None:
    return None if row is None else StoredCheckpoint(*row)
