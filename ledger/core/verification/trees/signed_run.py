"""Verifies a whole trail's signed logs: its own tree beside the rows, then the anchor log."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from ledger.chain import TrailFault
from ledger.core.verification.trees.log_tree import LogTree
from ledger.core.verification.work.crew import CrewMember, LogExtent, SignedExtent
from ledger.core.verification.work.extent import CoveredSizes
from ledger.core.verification.work.faults import ANCHOR_KINDS, NO_ENTRY, TRAIL_KINDS
from ledger.core.verification.work.segments import FaultList, Plan, SegmentResult, TreePart
from ledger.core.verification.work.tally import Tally
from ledger.merkle import TILE_HEIGHT, TILE_WIDTH
from ledger.pieces import piece
from ledger.storage.copy_out import Snapshot
from ledger.storage.tree_out import ANCHOR_LOG, TreeReader

ANCHOR_SEGMENT: Final = 4_096
"""Leaves of the anchor log in one segment; a worker also checks all anchors of these sizes."""
MAX_ORPHANS: Final = 1_000
MAX_LEVEL: Final = 7
"""The highest level of tiles in a tree of 2^63 leaves."""


class LogRun:
    """Builds one log's tree from the parts of its segments, in order, and checks it at the end."""

    def __init__(self, snapshot: Snapshot, org_id: int, tree: LogTree, extent: LogExtent) -> None:
        self.tree = tree
        self._snapshot = snapshot
        self._org_id = org_id
        self._extent = extent
        self._parts: deque[TreePart] = deque()
        self._turn = asyncio.Lock()

    def put(self, part: TreePart | None) -> None:
        """Queue the next part, in order; None for a segment without a tree."""
        if part is not None:
            self._parts.append(part)

    async def settle(self) -> None:
        """Add the queued parts, and compare the upper tiles that they completed."""
        async with self._turn:
            while self._parts:
                for _ in self.tree.add(self._parts.popleft()):
                    await piece(self._org_id)
            await self._compare()

    async def end(self, length: int) -> None:
        """Make the checks that need the whole log, which has ``length`` leaves."""
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
        """Add a fault unless the tree's row has the largest signed head."""
        row, head = await trees.tree(self._org_id), self._extent.head
        if row is None and head.size == 0:
            return
        if row != (head.size, head.root) and (head.size or (row and row[0])):
            size = "is missing" if row is None else f"has size {row[0]}"
            reason = (
                f"the tree's row {size} and does not match the largest checkpoint, of size "
                f"{head.size}"
            )
            self._fault(head.size, self.tree.kinds.tree_mismatch, reason)

    async def check_beyond(self, trees: TreeReader) -> None:
        """Add a fault for each level with a tile beyond the signed size."""
        for level in range(MAX_LEVEL + 1):
            hashes = self._extent.signed >> TILE_HEIGHT * level
            first = -(-hashes // TILE_WIDTH)
            tile = await trees.tile_beyond(self._org_id, level, first)
            if tile is not None:
                reason = f"tile {tile} of level {level} is beyond the largest checkpoint"
                self._fault(self._extent.signed + 1, self.tree.kinds.tile_mismatch, reason)

    def _check_length(self, length: int) -> None:
        signed, kinds = self._extent.signed, self.tree.kinds
        if length < signed:
            reason = f"{signed} leaves were signed, but only the first {length} exist"
            self._fault(length + 1, kinds.below_signed, reason)
        self.check_rollback(length)

    def check_rollback(self, length: int) -> None:
        """Add a fault if a remembered head is larger than the log's ``length`` and signed size."""
        signed, kinds = self._extent.signed, self.tree.kinds
        largest = max((head.size for head in self._extent.trust.remembered), default=0)
        if largest > max(length, signed):
            reason = (
                f"a tree of {largest} leaves was signed, but the database has only {length}: "
                "it was rolled back, or restored from an older copy"
            )
            self._fault(length + 1, kinds.rolled_back, reason)

    def _fault(self, size: int, kind: str, reason: str) -> None:
        self.tree.faults.add(size - 1, kind, reason)


class SignedRun:
    """Verifies the tree of a whole trail, and the whole anchor log."""

    def __init__(self, snapshot: Snapshot, org_id: int, signed: SignedExtent) -> None:
        self.signed = signed
        self._snapshot = snapshot
        self._org_id = org_id
        self.trail = self._log(org_id, LogTree(TRAIL_KINDS, signed.trail.signed))
        self._anchors = self._log(ANCHOR_LOG, LogTree(ANCHOR_KINDS, signed.anchors.signed))
        self._plan: Plan | None = None
        self._leaves = 0
        self._done: dict[int, SegmentResult] = {}
        self._added = 0

    def _log(self, org_id: int, tree: LogTree) -> LogRun:
        extent = self.signed.anchors if org_id == ANCHOR_LOG else self.signed.trail
        return LogRun(self._snapshot, org_id, tree, extent)

    async def prepare(self, processes: int) -> int:
        """Plan the segments of the anchor log; returns their number."""
        extent = self.signed.anchors
        async with self._snapshot.trees() as trees:
            self._leaves = await trees.last_leaf(extent.needed) + 1
        last = max(extent.signed, self._leaves) - 1
        self._plan = Plan(
            0,
            last,
            processes,
            beyond=(last + 1, None),
            size=ANCHOR_SEGMENT,
            tree=True,
            anchors=True,
        )
        return self._plan.count

    async def drive(self, member: CrewMember) -> None:
        """Have a worker check segments of the anchor log until all are taken."""
        while self._plan is not None and (task := self._plan.take()) is not None:
            index, segment = task
            self._done[index] = await member.check(segment, lambda _rows: None)
            while self._added in self._done:
                self._plan.segments.pop(self._added)
                self._anchors.put(self._done.pop(self._added).tree)
                self._added += 1
            await self._anchors.settle()

    async def covered_sizes(self) -> CoveredSizes:
        """The sizes up to which the signed logs cover the trail. Call it after :meth:`conclude`."""
        trust, size = self.signed.trust, self.signed.trail.signed
        attested = self._anchors.tree.attested
        async with self._snapshot.trees() as trees:
            anchored = await trees.covered(self._org_id, self.signed.anchors.signed, size)
            stamped, cosigned = [
                await trees.covered(self._org_id, attested.get(check, 0), size)
                for check in ("external_time", "witnesses")
            ]
        return CoveredSizes(
            size,
            anchored,
            None if trust.authorities is None else stamped,
            None if trust.witnesses is None else cosigned,
            known=self.signed.trail.needed,
        )

    async def conclude(self, tally: Tally) -> None:
        """Add the results of both logs to the tally."""
        await self._conclude_trail(tally)
        await self._conclude_anchors(tally)

    async def _conclude_trail(self, tally: Tally) -> None:
        tree = self.trail.tree
        gap = tally.gap_at_tail
        await self.trail.end(tally.last + 1 if gap is None else gap)
        async with self._snapshot.trees() as trees:
            await name_orphans(trees, self._org_id, self.signed.trail.signed, tree.faults)
        tally.add_faults(tree.faults.named, tree.faults.count, tree.faults.kinds)
        tally.count_failed(tree.rewritten)
        tally.passed |= tree.passed | ({"tree"} if tree.matched else set())
        if tree.unknown:
            reason = "signed leaves are in no row and in no tile"
            tally.doubted.update(tree=reason, checkpoints=reason)
        if tree.displaced:
            tally.contradicted.add("tree")
        if tree.absent:
            tally.doubted.setdefault("tree", "signed entries are missing")

    async def _conclude_anchors(self, tally: Tally) -> None:
        tree = self._anchors.tree
        await self._anchors.end(self._leaves)
        named = [TrailFault(NO_ENTRY, fault.kind, fault.reason) for fault in tree.faults.named]
        tally.add_faults(named, tree.faults.count, tree.faults.kinds)
        async with self._snapshot.trees() as trees:
            is_anchored = await trees.is_anchored(self._org_id, self.signed.anchors.signed)
        if not is_anchored or not tree.matched:
            tree.passed.discard("anchors")
        tally.passed |= tree.passed
        if tree.unknown:
            tally.doubted["anchors"] = "leaves of the anchor log are in no row and in no tile"
        if tree.absent:
            tally.doubted.setdefault("anchors", "leaves of the anchor log are missing")


async def name_orphans(trees: TreeReader, org_id: int, signed: int, faults: FaultList) -> None:
    """Add a fault for each checkpoint that the anchor log commits to and that is not stored."""
    for size, idx in await trees.orphans(org_id, MAX_ORPHANS):
        lost = size > signed
        reason = f"leaf {idx} of the anchor log commits to a checkpoint of size {size}" + (
            ", which is larger than any in the database: it was rolled back"
            if lost
            else " that is not stored"
        )
        faults.add(size - 1, "rolled_back" if lost else "checkpoint_missing", reason)
