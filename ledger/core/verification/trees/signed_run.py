"""The signed logs beside a trail's verification: its own tree, and the anchor log after it."""

from __future__ import annotations

from typing import Final

from ledger.chain import TrailFault
from ledger.core.verification.trees.log_tree import LogRun, LogTree
from ledger.core.verification.work.crew import CrewMember, SignedExtent
from ledger.core.verification.work.extent import CoveredSizes
from ledger.core.verification.work.faults import ANCHOR_KINDS, NO_ENTRY, TRAIL_KINDS
from ledger.core.verification.work.segments import Plan, SegmentResult
from ledger.core.verification.work.tally import Tally
from ledger.core.verification.work.tree_part import FaultList
from ledger.storage.copy_out import Snapshot
from ledger.storage.tree_out import ANCHOR_LOG, TreeReader

ANCHOR_SEGMENT: Final = 4_096
"""Leaves of the anchor log that a worker checks at a time, with all anchors among them."""
MAX_ORPHANS: Final = 1_000


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
