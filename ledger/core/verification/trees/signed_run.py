"""The signed logs beside a trail's verification: its own tree, and the anchor log after it."""

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
from ledger.storage.copy_out import Snapshot
from ledger.storage.tree_out import ANCHOR_LOG, TreeReader

ANCHOR_SEGMENT: Final = 4_096
"""Leaves of the anchor log that a worker checks at a time, with all anchors among them."""
MAX_ORPHANS: Final = 1_000
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
            first = -(-hashes // TILE_WIDTH)
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


class SignedRun:
    """The signed logs of a trail that is verified as a whole, and the anchor log with them."""

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
        """Plan the anchor log; returns how many segments it has."""
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
        """Let a worker check segments of the anchor log until none is left."""
        while self._plan is not None and (task := self._plan.take()) is not None:
            index, segment = task
            self._done[index] = await member.check(segment, lambda _rows: None)
            while self._added in self._done:
                self._plan.segments.pop(self._added)
                self._anchors.put(self._done.pop(self._added).tree)
                self._added += 1
            await self._anchors.settle()

    async def reach(self) -> CoveredSizes:
        """How far the signed logs cover the trail; after :meth:`conclude`."""
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
        """Put what was found of the logs into the tally."""
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
        tally.held |= tree.held | ({"tree"} if tree.matched else set())
        if tree.unknown:
            why = "leaves that were signed are in no row and no tile"
            tally.doubted.update(tree=why, checkpoints=why)
        if tree.displaced:
            tally.contradicted.add("tree")
        if tree.absent:
            tally.doubted.setdefault("tree", "entries are missing that were signed into it")

    async def _conclude_anchors(self, tally: Tally) -> None:
        tree = self._anchors.tree
        await self._anchors.end(self._leaves)
        named = [TrailFault(NO_ENTRY, fault.kind, fault.reason) for fault in tree.faults.named]
        tally.add_faults(named, tree.faults.count, tree.faults.kinds)
        async with self._snapshot.trees() as trees:
            is_anchored = await trees.is_anchored(self._org_id, self.signed.anchors.signed)
        if not is_anchored or not tree.matched:
            tree.held.discard("anchors")
        tally.held |= tree.held
        if tree.unknown:
            tally.doubted["anchors"] = "leaves of the anchor log are in no row and no tile"
        if tree.absent:
            tally.doubted.setdefault("anchors", "leaves of the anchor log are missing")


async def name_orphans(trees: TreeReader, org_id: int, signed: int, faults: FaultList) -> None:
    """Name the checkpoints that the anchor log commits to and that are not stored."""
    for size, idx in await trees.orphans(org_id, MAX_ORPHANS):
        lost = size > signed
        reason = f"leaf {idx} of the anchor log commits to a checkpoint of size {size}" + (
            ", which is more than the database knows of: it was set back"
            if lost
            else " that is not stored"
        )
        faults.add(size - 1, "rolled_back" if lost else "checkpoint_missing", reason)
