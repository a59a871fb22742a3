"""Verifies the signed logs for a range: the largest checkpoint, and the anchor that covers it.

Unlike for a whole trail, only the parts of both logs that prove the
range are read: its tiles under the largest checkpoint (by the workers), the checkpoints in
the range and above, and one path through the anchor log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from ledger.anchor import NONCE_BYTES, blind
from ledger.chain import TrailFault
from ledger.checkpoint import SignedTreeHead
from ledger.core.verification.trees.attestations import Attestations
from ledger.core.verification.trees.log_tree import LogTree
from ledger.core.verification.trees.range_proof import TileStore, check_root
from ledger.core.verification.trees.signed_run import LogRun, name_orphans
from ledger.core.verification.work.crew import LogExtent, SignedExtent
from ledger.core.verification.work.extent import AT_ONCE, TRIES, CoveredSizes
from ledger.core.verification.work.faults import ANCHOR_KINDS, NO_ENTRY, TRAIL_KINDS, LogKinds
from ledger.core.verification.work.segments import MAX_BIGINT, FaultList, TreePart
from ledger.core.verification.work.tally import Tally
from ledger.core.verification.work.trust import NoteJudge
from ledger.errors import MerkleError, TileError
from ledger.merkle import leaf_hash, verify_inclusion
from ledger.storage.copy_out import Snapshot
from ledger.storage.tree_out import ANCHOR_LOG, StoredHead, TreeReader
from ledger.tiles import inclusion_proof, tiles_for_inclusion


class RangeRun:
    """Collects the parts of a range, and checks its signed logs at the end.

    ``length`` is the number of entries by the head row. The signer remembers a size
    before the database has its checkpoint, so a remembered size up to that length is no loss.
    """

    def __init__(self, snapshot: Snapshot, org_id: int, signed: SignedExtent, length: int) -> None:
        self.signed = signed
        self._snapshot = snapshot
        self._org_id = org_id
        self._length = length
        self._faults = FaultList()
        self._passed: set[str] = set()
        self._displaced = self._absent = self._unproven = False
        self._rewritten = 0
        self._attested: dict[str, int] = {}
        self._anchored = 0

    def put(self, part: TreePart | None) -> None:
        """Add one segment's part; None for a segment without a tree."""
        if part is None:
            return
        self._faults.take(part.faults, part.fault_count, part.kinds)
        self._passed.update(part.passed)
        self._displaced |= part.displaced
        self._absent |= part.absent
        self._unproven |= part.unproven
        self._rewritten += part.rewritten

    async def conclude(self, tally: Tally, *, to_end: bool) -> None:
        """Check both logs and add the results to the tally; ``to_end``: the range ends the trail."""
        async with self._snapshot.trees() as trees:
            await self._conclude_trail(trees, tally, to_end=to_end)
            anchor_faults = FaultList()
            await self._conclude_anchors(trees, tally.first, anchor_faults)
        self._faults.take(
            [TrailFault(NO_ENTRY, fault.kind, fault.reason) for fault in anchor_faults.named],
            anchor_faults.count,
            sorted(anchor_faults.kinds),
        )
        tally.add_faults(self._faults.named, self._faults.count, self._faults.kinds)
        tally.count_failed(self._rewritten)
        tally.passed |= self._passed
        if self._displaced:
            tally.contradicted.add("tree")
        if self._absent:
            tally.doubted["tree"] = "signed entries are missing"
        if self._unproven:
            tally.doubted["checkpoints"] = "the stored tiles do not lead to every signed root"

    async def covered_sizes(self) -> CoveredSizes:
        """The sizes up to which the signed logs cover the trail. Call it after :meth:`conclude`."""
        trust = self.signed.trust
        async with self._snapshot.trees() as trees:
            stamped = await self._attested_size(trees, "external_time")
            cosigned = await self._attested_size(trees, "witnesses")
        return CoveredSizes(
            self.signed.trail.signed,
            self._anchored,
            None if trust.authorities is None else stamped,
            None if trust.witnesses is None else cosigned,
            known=self.signed.trail.needed,
        )

    async def _attested_size(self, trees: TreeReader, check: str) -> int:
        anchor = self._attested.get(check, 0)
        return await trees.covered(self._org_id, anchor, self.signed.trail.signed) if anchor else 0

    async def _conclude_trail(self, trees: TreeReader, tally: Tally, *, to_end: bool) -> None:
        extent, faults = self.signed.trail, self._faults
        log = _log(self._snapshot, self._org_id, extent, TRAIL_KINDS)
        above = MAX_BIGINT if to_end else tally.last + 1
        passed = await _judge_top(trees, self._org_id, extent, TRAIL_KINDS, faults, above=above)
        if extent.signed > tally.first:
            self._passed |= passed
        await log.check_row(trees)
        await log.check_beyond(trees)
        log.check_rollback(self._length)
        faults.take(log.tree.faults.named, log.tree.faults.count, sorted(log.tree.faults.kinds))
        store = TileStore(self._org_id)
        for head in _remembered_outside(extent, tally):
            self._unproven |= not await check_root(store, trees, head, faults)
        await name_orphans(trees, self._org_id, extent.signed, faults)

    async def _conclude_anchors(self, trees: TreeReader, first: int, faults: FaultList) -> None:
        extent = self.signed.anchors
        passed = await _judge_top(trees, ANCHOR_LOG, extent, ANCHOR_KINDS, faults, above=MAX_BIGINT)
        log = _log(self._snapshot, ANCHOR_LOG, extent, ANCHOR_KINDS)
        await log.check_row(trees)
        await log.check_beyond(trees)
        log.check_rollback(await trees.last_leaf(extent.needed) + 1)
        faults.take(log.tree.faults.named, log.tree.faults.count, sorted(log.tree.faults.kinds))
        store = TileStore(ANCHOR_LOG)
        for head in extent.trust.remembered:
            if head.size <= extent.signed:
                await check_root(store, trees, head, faults, ANCHOR_KINDS)
        size = await trees.covered(self._org_id, extent.signed, self.signed.trail.signed)
        if size < self.signed.trail.needed or not size:
            await _check_leaves(trees, extent.signed, faults)
        if not size:
            return
        row = await self._leaf(trees, size)
        if row is None or not await self._check_anchored(trees, store, row, faults):
            return
        self._anchored = size
        self._passed |= passed | {"anchors"}
        leaf = await trees.first_leaf(self._org_id, first)
        if leaf is not None:
            attestations = Attestations(self.signed.trust)
            sizes = leaf, extent.signed
            await attestations.read(trees, sizes, faults, self._passed, newest=True)
            self._attested = attestations.attested

    async def _leaf(self, trees: TreeReader, size: int) -> StoredHead | None:
        """The checkpoint of this size with the first leaf by which an anchor commits to it."""
        rows = [row async for row in trees.heads(self._org_id, size - 1, size)]
        covered = [
            row for row in rows if row.idx is not None and row.idx < self.signed.anchors.signed
        ]
        return min(covered, key=lambda row: row.idx or 0) if covered else None

    async def _check_anchored(
        self, trees: TreeReader, store: TileStore, row: StoredHead, faults: FaultList
    ) -> bool:
        """True if the checkpoint is the trail's, and its leaf is in the signed anchor log."""
        judged = NoteJudge(self.signed.trust.trail, TRAIL_KINDS).judge(row.size, row.root, row.note)
        for kind, reason in judged.faults:
            self._faults.add(row.size - 1, kind, f"the checkpoint of size {row.size}: {reason}")
        if judged.head is None or row.note is None or row.idx is None or row.leaf is None:
            return False
        own = TileStore(self._org_id)
        head = SignedTreeHead(judged.head.size, judged.head.root)
        if not await check_root(own, trees, head, self._faults):
            return False
        nonce = row.nonce or b""
        if len(nonce) != NONCE_BYTES or blind(nonce, row.note) != row.leaf:
            reason = f"leaf {row.idx} of the anchor log does not commit to the stored checkpoint"
            self._faults.add(row.size - 1, "anchor_leaf_mismatch", reason)
            return False
        return await self._check_included(trees, store, row.idx, row.leaf, faults)

    async def _check_included(
        self, trees: TreeReader, store: TileStore, idx: int, leaf: bytes, faults: FaultList
    ) -> bool:
        head = self.signed.anchors.head
        try:
            tiles = await store.get(trees, tiles_for_inclusion(idx, head.size))
            proof = inclusion_proof(idx, head.size, tiles)
            verify_inclusion(idx, head.size, leaf_hash(leaf), proof, head.root)
        except TileError as error:
            faults.add(idx, ANCHOR_KINDS.tile_missing, str(error))
        except MerkleError as error:
            reason = f"leaf {idx} is not in the signed anchor log of size {head.size}: {error}"
            faults.add(idx, ANCHOR_KINDS.tile_mismatch, reason)
        else:
            return True
        return False


async def _check_leaves(trees: TreeReader, signed: int, faults: FaultList) -> None:
    """Add a fault if signed leaves were removed: a checkpoint without a leaf may then have had one."""
    missing = signed - await trees.leaf_count(signed)
    if missing > 0:
        reason = f"{missing} of the {signed} signed leaves of the anchor log are missing"
        faults.add(signed - 1, "anchor_leaf_missing", reason)


def _log(snapshot: Snapshot, org_id: int, extent: LogExtent, kinds: LogKinds) -> LogRun:
    return LogRun(snapshot, org_id, LogTree(kinds, extent.signed), extent)


def _remembered_outside(extent: LogExtent, tally: Tally) -> list[SignedTreeHead]:
    """Remembered heads that no worker has compared with the tiles."""
    return [
        head
        for head in extent.trust.remembered
        if head.size <= extent.signed and not tally.first < head.size <= tally.last + 1
    ]


async def _judge_top(
    trees: TreeReader,
    org_id: int,
    extent: LogExtent,
    kinds: LogKinds,
    faults: FaultList,
    *,
    above: int,
) -> set[str]:
    """Check the largest valid checkpoint and the invalid ones above it; returns the checks it passed.

    Faults of a trail's checkpoints up to ``above`` are not added: the workers check those.
    """
    judge = NoteJudge(extent.trust, kinds)
    is_anchor = kinds is ANCHOR_KINDS
    async for size, root, note in _from_the_top(trees, org_id, extent.signed):
        judged = judge.judge(size, root, note)
        if is_anchor or size > above:
            for kind, reason in judged.faults:
                noun = "anchor" if is_anchor else "checkpoint"
                faults.add(size - 1, kind, f"the {noun} of size {size}: {reason}")
        if size == extent.signed and judged.head is not None:
            passed = {"classical_signature"} if judged.classical else set()
            passed |= {"pq_signature"} if judged.pq else set()
            return passed if is_anchor else passed | {"checkpoints"}
    return set()


async def _from_the_top(
    trees: TreeReader, org_id: int, signed: int
) -> AsyncIterator[tuple[int, bytes, bytes | None]]:
    """Size, root and note of the checkpoints, from the largest down to the size ``signed``."""
    below = MAX_BIGINT
    for _ in range(TRIES // AT_ONCE):
        rows = await trees.newest(org_id, below, AT_ONCE)
        for row in rows:
            if row[0] < signed:
                return
            yield row
        if len(rows) < AT_ONCE:
            return
        below = rows[-1][0]
