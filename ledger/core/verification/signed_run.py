"""The signed logs beside a trail's verification: its own tree, and the anchor log after it."""

from __future__ import annotations

from typing import Final

from ledger.chain import Fault
from ledger.core.verification.crew import CrewMember
from ledger.core.verification.faults import ANCHOR_KINDS, NO_ENTRY, TRAIL_KINDS
from ledger.core.verification.log_run import LogRun
from ledger.core.verification.log_tree import LogTree
from ledger.core.verification.plan import Plan
from ledger.core.verification.segment import SegmentResult
from ledger.core.verification.tally import Tally
from ledger.core.verification.tree_part import FaultList
from ledger.core.verification.wire import Signed
from ledger.storage.copy_out import Snapshot
from ledger.storage.tree_out import ANCHOR_LOG

ANCHOR_SEGMENT: Final = 4_096
"""Leaves of the anchor log that a worker checks at a time, with all anchors among them."""
MAX_ORPHANS: Final = 1_000


class SignedRun:
    """``whole``: the trail is verified to its end, and the anchor log with it."""

    def __init__(self, snapshot: Snapshot, org_id: int, signed: Signed, *, whole: bool) -> None:
        self.signed = signed
        self._snapshot = snapshot
        self._org_id = org_id
        self._whole = whole
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
        if not self._whole:
            return 0
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

    async def conclude(self, tally: Tally) -> None:
        """Put what was found of the logs into the tally."""
        await self._conclude_trail(tally)
        if self._whole:
            await self._conclude_anchors(tally)

    async def _conclude_trail(self, tally: Tally) -> None:
        tree = self.trail.tree
        if self._whole:
            gap = tally.gap_at_tail
            await self.trail.end(tally.last + 1 if gap is None else gap)
            await self._name_orphans(tree.faults)
        else:
            tree.close()
            await self.trail.settle()
        tally.add_faults(tree.faults.named, tree.faults.count, tree.faults.kinds)
        tally.count_failed(tree.rewritten)
        tally.held |= tree.held | ({"tree"} if tree.matched else set())
        if tree.unknown:
            tally.doubted |= {"tree", "checkpoints"}
        if tree.displaced:
            tally.contradicted.add("tree")

    async def _conclude_anchors(self, tally: Tally) -> None:
        tree = self._anchors.tree
        await self._anchors.end(self._leaves)
        named = [Fault(NO_ENTRY, fault.kind, fault.reason) for fault in tree.faults.named]
        tally.add_faults(named, tree.faults.count, tree.faults.kinds)
        async with self._snapshot.trees() as trees:
            is_anchored = await trees.is_anchored(self._org_id, self.signed.anchors.signed)
        if not is_anchored or not tree.matched:
            tree.held.discard("anchors")
        tally.held |= tree.held
        if tree.unknown:
            tally.doubted.add("anchors")

    async def _name_orphans(self, faults: FaultList) -> None:
        """Checkpoints that the anchor log commits to and that are not stored."""
        async with self._snapshot.trees() as trees:
            orphans = await trees.orphans(self._org_id, MAX_ORPHANS)
        for size, idx in orphans:
            lost = size > self.signed.trail.signed
            reason = f"leaf {idx} of the anchor log commits to a checkpoint of size {size}" + (
                ", which is more than the database knows of: it was set back"
                if lost
                else " that is not stored"
            )
            faults.add(size - 1, "rolled_back" if lost else "checkpoint_missing", reason)
