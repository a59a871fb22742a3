"""One signed log under verification: its parts in order, its upper tiles, its end."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from ledger.core.verification.trees.log_tree import LogTree
from ledger.core.verification.trees.upper_tiles import TILE_HEIGHT
from ledger.core.verification.work.tree_part import TILE_HASHES, TreePart
from ledger.core.verification.work.wire import LogExtent
from ledger.storage.copy_out import Snapshot
from ledger.storage.tree_out import TreeReader

MAX_LEVEL: Final = 7
"""The highest level that a tree of 2^63 leaves has tiles at."""


class LogRun:
    """Takes the parts of a log as segments are done, in order, and holds them together."""

    def __init__(self, snapshot: Snapshot, org_id: int, tree: LogTree, extent: LogExtent) -> None:
        self.tree = tree
        self._snapshot = snapshot
        self._org_id = org_id
        self._extent = extent
        self._parts: deque[TreePart] = deque()
        self._turn = asyncio.Lock()

    def put(self, part: TreePart | None) -> None:
        """The next part, in order; None for a segment of which nothing was read."""
        if part is not None:
            self._parts.append(part)

    async def settle(self) -> None:
        """Add what was put, and compare the upper tiles that it completed."""
        async with self._turn:
            while self._parts:
                for _ in self.tree.add(self._parts.popleft()):
                    await asyncio.sleep(0)
            await self._compare()

    async def end(self, length: int) -> None:
        """The whole log was read, and has ``length`` leaves: what can only be said at the end."""
        async with self._turn:
            self.tree.close()
            await self._compare()
            async with self._snapshot.trees() as trees:
                await self.check_row(trees)
                await self.check_beyond(trees)
            self._check_length(length)

    async def _compare(self) -> None:
        while self.tree.finished:
            tile = self.tree.finished.popleft()
            async with self._snapshot.trees() as trees:
                stored = await trees.tiles(self._org_id, tile.level, tile.number, tile.number)
            self.tree.compare(tile, stored.get(tile.number, b""))

    async def check_row(self, trees: TreeReader) -> None:
        """The tree's own row must name the largest head that was signed."""
        row, head = await trees.tree(self._org_id), self._extent.head
        if row is None and head.size == 0:
            return
        if row != (head.size, head.root) and (head.size or (row and row[0])):
            size = "nothing" if row is None else f"size {row[0]}"
            reason = f"the tree's row says {size}, the largest checkpoint has size {head.size}"
            self._fault(head.size, self.tree.kinds.tree_mismatch, reason)

    async def check_beyond(self, trees: TreeReader) -> None:
        """No tile may stand beyond what was signed."""
        for level in range(MAX_LEVEL + 1):
            hashes = self._extent.signed >> TILE_HEIGHT * level
            first = -(-hashes // TILE_HASHES)
            tile = await trees.tile_beyond(self._org_id, level, first)
            if tile is not None:
                reason = f"tile {tile} of level {level} is beyond the largest checkpoint"
                self._fault(self._extent.signed + 1, self.tree.kinds.tile_mismatch, reason)

    def _check_length(self, length: int) -> None:
        signed, kinds = self._extent.signed, self.tree.kinds
        if length < signed:
            reason = f"{signed} leaves were signed, and only the first {length} are there"
            self._fault(length + 1, kinds.below_signed, reason)
        self.check_rollback(length)

    def check_rollback(self, length: int) -> None:
        """Nothing larger may be remembered than the ``length`` of the log, or its signed size."""
        signed, kinds = self._extent.signed, self.tree.kinds
        largest = max((head.size for head in self._extent.trust.remembered), default=0)
        if largest > max(length, signed):
            reason = (
                f"a tree of {largest} leaves was signed, and the database has only {length}: "
                "it was set back, or restored from an older copy"
            )
            self._fault(length + 1, kinds.rolled_back, reason)

    def _fault(self, size: int, kind: str, reason: str) -> None:
        self.tree.faults.add(size - 1, kind, reason)
