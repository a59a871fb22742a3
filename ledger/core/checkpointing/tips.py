"""The tip of each tree: its right edge and newest leaf, cached, or read back and proven.

Tiles read back are trusted only if they hash to a root that our own key signed, and if
that tree extends the tree head in this machine's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ledger.bounded import BoundedCache
from ledger.checkpoint import TreeHead
from ledger.core.checkpointing.doubt import SigningDoubt
from ledger.core.checkpointing.memory import SignerMemory
from ledger.entry import HASH_BYTES, MAX_SEQ
from ledger.errors import FormatError, MerkleError
from ledger.merkle import TILE_WIDTH, Edge, verify_inclusion
from ledger.storage.signing import SignerConnection
from ledger.storage.trees import join_parts
from ledger.tiles import (
    Tile,
    edge_from_tiles,
    inclusion_proof,
    tiles_for_edge,
    tiles_for_inclusion,
)

MAX_TIPS: Final = 50_000
"""Tips that are cached: about two kilobytes each."""
_NOT_OF_TREE: Final = (FormatError, MerkleError)
"""Errors raised for tiles that do not belong to the tree."""


class Tip(NamedTuple):
    """The end of a tree; ``link`` is the hash of its newest leaf as hex, None when it is empty."""

    edge: Edge
    link: str | None


class SignedTip(NamedTuple):
    """A tree's size and root by its row, and the function that opens its checkpoint.

    ``opened`` takes a note, verifies it and returns its tree head. Raises FormatError.
    """

    org_id: int
    size: int
    root: bytes | None
    opened: Callable[[bytes], TreeHead]


class Tips:
    """The tips of the trees that this signer extends."""

    def __init__(self, connection: SignerConnection, memory: SignerMemory) -> None:
        self._connection = connection
        self._memory = memory
        self._cached: BoundedCache[int, Tip] = BoundedCache(MAX_TIPS)

    def keep(self, org_id: int, tip: Tip) -> None:
        """Cache the tip of a tree after it was signed."""
        self._cached.put(org_id, tip)

    def forget(self, org_ids: Sequence[int]) -> None:
        """Drop these tips: they are read back before their trees are extended again."""
        for org_id in org_ids:
            self._cached.pop(org_id)

    async def of(self, trees: Sequence[SignedTip]) -> dict[int, Tip | SigningDoubt]:
        """The tip of each of these trees, or the doubt about it. Raises DatabaseUnavailable."""
        tips: dict[int, Tip | SigningDoubt] = {}
        missing = []
        for tree in trees:
            cached = self._cached.get(tree.org_id)
            if tree.size == 0:
                tips[tree.org_id] = Tip(Edge(), None)
            elif not 0 < tree.size <= MAX_SEQ + 1:
                tips[tree.org_id] = _impossible(tree.size)
            elif cached is not None and (cached.edge.size, cached.edge.root()) == (
                tree.size,
                tree.root,
            ):
                tips[tree.org_id] = cached
            else:
                missing.append(tree)
        if missing:
            tips.update(await self._read_back(missing))
        return tips

    async def _read_back(self, trees: Sequence[SignedTip]) -> dict[int, Tip | SigningDoubt]:
        places = sorted(
            {
                (tree.org_id, tile.level, tile.index)
                for tree in trees
                for tile in self._tiles_to_read(tree)
            }
        )
        parts = await self._connection.tile_parts(places)
        notes = await self._connection.notes_at([(tree.org_id, tree.size) for tree in trees])
        return {
            tree.org_id: self._proven(
                tree, join_parts(parts.get(tree.org_id, ())), notes.get(tree.org_id)
            )
            for tree in trees
        }

    def _tiles_to_read(self, tree: SignedTip) -> list[Tile]:
        newest = tree.size - 1
        tiles = [
            *tiles_for_edge(tree.size),
            *tiles_for_inclusion(newest, tree.size),
            _newest_leaves(tree.size),
        ]
        remembered = self._memory.get(tree.org_id)
        if remembered is not None and 0 < remembered.size < tree.size:
            tiles += tiles_for_edge(remembered.size)
        return tiles

    def _proven(
        self, tree: SignedTip, stored: dict[tuple[int, int], bytes], note: bytes | None
    ) -> Tip | SigningDoubt:
        if note is None or tree.root is None:
            return SigningDoubt(
                "checkpoint_missing", f"the checkpoint of size {tree.size} is missing"
            )
        try:
            opened = tree.opened(note)
        except FormatError as error:
            return SigningDoubt(
                "checkpoint_invalid", f"the checkpoint of size {tree.size}: {error}"
            )
        if (opened.size, opened.root) != (tree.size, tree.root):
            return SigningDoubt(
                "checkpoint_invalid",
                f"the checkpoint of size {tree.size} names another size or root than the tree",
            )
        tip = _tip_of(tree.size, tree.root, stored)
        return tip if isinstance(tip, SigningDoubt) else self._memory_doubt(tree, stored) or tip

    def _memory_doubt(
        self, tree: SignedTip, stored: dict[tuple[int, int], bytes]
    ) -> SigningDoubt | None:
        """A doubt if the tree does not extend the tree head that this machine remembers."""
        remembered = self._memory.get(tree.org_id)
        if remembered is None or remembered.size > tree.size:
            return None
        try:
            edge = edge_from_tiles(remembered.size, _cut(stored, tiles_for_edge(remembered.size)))
            same = edge.root() == remembered.root
        except _NOT_OF_TREE:
            same = False
        if same or (remembered.size, remembered.root) == (tree.size, tree.root):
            return None
        return SigningDoubt(
            "history_rewritten",
            f"the tree differs from the one this signer signed at size {remembered.size}",
        )


def _tip_of(size: int, root: bytes, stored: dict[tuple[int, int], bytes]) -> Tip | SigningDoubt:
    """The tip that these tiles make, or a doubt if they do not hash to the signed root."""
    try:
        edge = edge_from_tiles(size, _cut(stored, tiles_for_edge(size)))
    except _NOT_OF_TREE as error:
        return SigningDoubt("tile_missing", f"tiles of the tree of size {size}: {error}")
    if edge.root() != root:
        return SigningDoubt(
            "tile_changed", f"the tiles do not hash to the root signed at size {size}"
        )
    newest, place = size - 1, _newest_leaves(size)
    tiles = _cut(stored, [*tiles_for_inclusion(newest, size), place])
    leaf_hash = tiles[place][-HASH_BYTES:]
    try:
        verify_inclusion(newest, size, leaf_hash, inclusion_proof(newest, size, tiles), root)
    except _NOT_OF_TREE:
        return SigningDoubt("tile_changed", f"the hash of leaf {newest} is not in the signed tree")
    return Tip(edge, leaf_hash.hex())


def _impossible(size: int) -> SigningDoubt:
    return SigningDoubt(
        "tree_row_changed", f"its row in the table trees has the impossible size {size}"
    )


def _newest_leaves(size: int) -> Tile:
    """The tile that holds the newest leaf hash of a tree that is not empty."""
    return Tile(0, (size - 1) // TILE_WIDTH, (size - 1) % TILE_WIDTH + 1)


def _cut(stored: dict[tuple[int, int], bytes], tiles: Sequence[Tile]) -> dict[Tile, bytes]:
    return {
        tile: stored.get((tile.level, tile.index), b"")[: tile.width * HASH_BYTES] for tile in tiles
    }
