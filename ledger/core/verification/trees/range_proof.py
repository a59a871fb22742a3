"""Proves a range in the signed tree: each of its tiles under the largest checkpoint.

A range may begin anywhere, so the tree is not built from its first leaf.
Instead the rows are compared with their tiles of level 0, each of these
tiles is proven under the signed root, and the roots signed for sizes inside
the range are compared with the edges that the tiles make. Each tile is read once.
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

MAX_CACHED: Final = 1_024
"""Tiles that are cached, of at most 8 KiB each."""


class TileStore:
    """Reads and caches tiles of an org's tree; a tile that is not stored is returned as b""."""

    def __init__(self, org_id: int) -> None:
        self._org_id = org_id
        self._cached: dict[tuple[int, int], bytes] = {}

    async def get(self, trees: TreeReader, tiles: Iterable[Tile]) -> dict[Tile, bytes]:
        """These tiles as stored, which may be wider or narrower than their nominal width."""
        tiles = list(tiles)
        for tile in tiles:
            await self.load(trees, tile.level, tile.index, tile.index)
        return {tile: self._cached[tile.level, tile.index] for tile in tiles}

    async def load(self, trees: TreeReader, level: int, first: int, last: int) -> None:
        """Read neighbouring tiles, ``first`` to ``last`` of a level, unless all are cached."""
        if all((level, index) in self._cached for index in range(first, last + 1)):
            return
        if len(self._cached) >= MAX_CACHED:
            self._cached.clear()
        stored = await trees.tiles(self._org_id, level, first, last)
        for index in range(first, last + 1):
            self._cached[level, index] = stored.get(index, b"")


class RangeProof:
    """Proves the rows of one segment under a signed head; adds to ``faults`` and ``passed``."""

    def __init__(
        self, head: SignedTreeHead, rows: SegmentLeaves, faults: FaultList, passed: set[str]
    ) -> None:
        self._head = head
        self._rows = rows
        self._faults = faults
        self._passed = passed
        self._displaced = self._absent = self._unproven = False
        self._rewritten = 0

    async def check(
        self, store: TileStore, trees: TreeReader, heads: Sequence[SignedTreeHead]
    ) -> None:
        """Check the tiles under the rows, and the signed roots of these heads."""
        first = self._rows.first
        end = min(first + len(self._rows.leaves), self._head.size)
        if first < end:
            tiles = list(by_tile(first, end - 1))
            await store.load(trees, 0, tiles[0][0], tiles[-1][0])
            for index, seqs in tiles:
                await self._check_tile(store, trees, index, seqs)
        for head in heads:
            if head.size > self._head.size:
                continue  # the signer remembers it, but its checkpoint is not stored yet
            if await check_root(store, trees, head, self._faults):
                self._passed.add("checkpoints")
            else:
                self._unproven = True

    def part(self) -> TreePart:
        """The result, as the segment's part of the tree."""
        return TreePart(
            [],
            None,
            displaced=self._displaced,
            absent=self._absent,
            faults=self._faults.named,
            fault_count=self._faults.count,
            kinds=sorted(self._faults.kinds),
            passed=sorted(self._passed),
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
            reason = f"tile {index} of level 0 is not in the signed tree of size {size}: {error}"
            self._faults.add(seqs[0], TRAIL_KINDS.tile_mismatch, reason)
            return
        for seq in seqs:
            self._compare(seq, proofs.leaf_hash(seq))
        self._passed.add("tree")

    def _compare(self, seq: int, signed: bytes) -> None:
        leaf = self._rows.leaves[seq - self._rows.first]
        if leaf == signed:
            return
        if leaf is not None:
            self._rewritten += 1
            reason = f"leaf {seq} differs from the signed one, although its links are right"
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
    """Compare a signed root with the edge that the tiles make at its size; returns True if equal.

    Adds a fault if tiles are missing or the roots differ.
    """
    if len(head.root) != HASH_BYTES or head.size < 1:
        return False
    try:
        tiles = await store.get(trees, tiles_for_edge(head.size))
        root = edge_from_tiles(head.size, tiles).root()
    except TileError as error:
        faults.add(head.size - 1, kinds.tile_missing, str(error))
        return False
    if root != head.root:
        reason = f"the root signed for size {head.size} is not the root of the stored tiles"
        faults.add(head.size - 1, kinds.forked, reason)
        return False
    return True
