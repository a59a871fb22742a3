"""The signed tree under a range: each of its tiles proven in the largest checkpoint.

A range may begin anywhere, so the tree is not put together from its first leaf.
Instead the rows are held against the tiles of level 0 under them, each of these
tiles is proven under the root that was signed, and the roots signed for sizes inside
the range are held against the edges that the tiles make. Each tile is read once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ledger.checkpoint import SignedTreeHead
from ledger.core.verification.trees.blocks import SegmentLeaves
from ledger.core.verification.work.faults import TRAIL_KINDS, LogKinds
from ledger.core.verification.work.segments import FaultList, TreePart
from ledger.errors import MerkleError, TileError
from ledger.merkle import HASH_BYTES
from ledger.storage.tree_out import TreeReader
from ledger.tiles import (
    Tile,
    TileProofs,
    by_tile,
    edge_from_tiles,
    tiles_for_edge,
    tiles_for_proofs,
)

MAX_KEPT: Final = 1_024
"""Tiles that are kept, of at most 8 KiB each."""


class TileStore:
    """Reads tiles of an org's tree; a tile that is not stored reads as no bytes."""

    def __init__(self, org_id: int) -> None:
        self._org_id = org_id
        self._kept: dict[tuple[int, int], bytes] = {}

    async def get(self, trees: TreeReader, wanted: Iterable[Tile]) -> dict[Tile, bytes]:
        """These tiles as they are stored, which may be wider or shorter than they are named."""
        tiles = list(wanted)
        for tile in tiles:
            await self.load(trees, tile.level, tile.index, tile.index)
        return {tile: self._kept[tile.level, tile.index] for tile in tiles}

    async def load(self, trees: TreeReader, level: int, first: int, last: int) -> None:
        """Read tiles that lie side by side and are not kept yet."""
        if all((level, index) in self._kept for index in range(first, last + 1)):
            return
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        stored = await trees.tiles(self._org_id, level, first, last)
        for index in range(first, last + 1):
            self._kept[level, index] = stored.get(index, b"")


class RangeProof:
    """Proves the rows of one segment under a signed head. Adds to ``faults`` and ``held``."""

    def __init__(
        self, head: SignedTreeHead, rows: SegmentLeaves, faults: FaultList, held: set[str]
    ) -> None:
        self._head = head
        self._rows = rows
        self._faults = faults
        self._held = held
        self._displaced = self._absent = self._unproven = False
        self._rewritten = 0

    async def check(
        self, store: TileStore, trees: TreeReader, heads: Sequence[SignedTreeHead]
    ) -> None:
        """Check the tiles under the rows, and the roots that were signed for these sizes."""
        first = self._rows.first
        end = min(first + len(self._rows.leaves), self._head.size)
        if first < end:
            tiles = list(by_tile(first, end - 1))
            await store.load(trees, 0, tiles[0][0], tiles[-1][0])
            for index, seqs in tiles:
                await self._check_tile(store, trees, index, seqs)
        for head in heads:
            if head.size > self._head.size:
                continue  # the signer remembers it, and its checkpoint is not there yet
            if await check_root(store, trees, head, self._faults):
                self._held.add("checkpoints")
            else:
                self._unproven = True

    def part(self) -> TreePart:
        """What was found."""
        return TreePart(
            [],
            None,
            displaced=self._displaced,
            absent=self._absent,
            faults=self._faults.named,
            fault_count=self._faults.count,
            kinds=sorted(self._faults.kinds),
            held=sorted(self._held),
            rewritten=self._rewritten,
            unproven=self._unproven,
        )

    async def _check_tile(
        self, store: TileStore, trees: TreeReader, index: int, seqs: range
    ) -> None:
        size, root = self._head.size, self._head.root
        try:
            tiles = await store.get(trees, tiles_for_proofs(index, size))
            proofs = TileProofs(index, size, tiles)
            proofs.check(root)
        except TileError as error:
            self._unproven = True
            self._faults.add(seqs[0], TRAIL_KINDS.tile_missing, str(error))
            return
        except MerkleError as error:
            self._unproven = True
            reason = f"tile {index} of level 0 is not in the tree signed at size {size}: {error}"
            self._faults.add(seqs[0], TRAIL_KINDS.tile_mismatch, reason)
            return
        for seq in seqs:
            self._compare(seq, proofs.leaf_hash(seq))
        self._held.add("tree")

    def _compare(self, seq: int, signed: bytes) -> None:
        leaf = self._rows.leaves[seq - self._rows.first]
        if leaf == signed:
            return
        if leaf is not None:
            self._rewritten += 1
            reason = f"leaf {seq} is not the one that was signed, though it fits its neighbours"
            self._faults.add(seq, TRAIL_KINDS.rewritten, reason)
            return
        wrong = self._rows.wrong.get(seq)
        self._absent |= wrong is None
        self._displaced |= wrong is not None and wrong != signed


async def check_root(
    store: TileStore,
    trees: TreeReader,
    head: SignedTreeHead,
    faults: FaultList,
    kinds: LogKinds = TRAIL_KINDS,
) -> bool:
    """Hold a signed root against the edge that the tiles make at its size; whether it is theirs."""
    if len(head.root) != HASH_BYTES or head.size < 1:
        return False
    try:
        tiles = await store.get(trees, tiles_for_edge(head.size))
        root = edge_from_tiles(head.size, tiles).root()
    except TileError as error:
        faults.add(head.size - 1, kinds.tile_missing, str(error))
        return False
    if root != head.root:
        reason = f"the root that was signed for size {head.size} is not that of the tiles stored"
        faults.add(head.size - 1, kinds.forked, reason)
        return False
    return True
