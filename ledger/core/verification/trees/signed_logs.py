"""A worker's checks of the signed logs: a segment's tree and heads, of the trail or the anchor log.

Each stored checkpoint belongs to the segment with the last entry that
it covers, so all workers share the signatures of a long history.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from ledger.anchor import LEAF_BYTES, NONCE_BYTES, blind
from ledger.checkpoint import SignedTreeHead
from ledger.core.verification.trees.attestations import Attestations
from ledger.core.verification.trees.blocks import SegmentLeaves, SegmentTiles, tree_part
from ledger.core.verification.work.crew import SignedExtent
from ledger.core.verification.work.faults import ANCHOR_KINDS, TRAIL_KINDS, LogKinds, spell_range
from ledger.core.verification.work.segments import (
    MAX_BIGINT,
    MIN_BIGINT,
    FaultList,
    Segment,
    SegmentResult,
    TreePart,
)
from ledger.core.verification.work.trust import LogTrust, NoteJudge
from ledger.merkle import TILE_WIDTH, leaf_hash
from ledger.storage.tree_out import ANCHOR_LOG, StoredHead, TreeReader

if TYPE_CHECKING:
    from ledger.core.verification.trees.range_proof import TileStore


class HeadsOfSegment:
    """Reads and checks a segment's signed heads; ``heads`` are the valid ones, smallest first."""

    def __init__(self, log: LogTrust, judge: NoteJudge, kinds: LogKinds) -> None:
        self.heads: list[SignedTreeHead] = []
        self.faults = FaultList()
        self.passed: set[str] = set()
        self._log = log
        self._judge = judge
        self._of_anchors = kinds is ANCHOR_KINDS

    async def read(self, trees: TreeReader, org_id: int, segment: Segment) -> None:
        """Read the heads of the segment: sizes above its first seq, up to its last seq + 1."""
        above, until = sizes_of(segment)
        last: int | None = None
        async for row in trees.heads(org_id, above, until):
            if row.size != last:
                self._check_note(row)
                last = row.size
            self._check_leaf(row)
        known = {head.size for head in self.heads}
        remembered = [h for h in self._log.remembered if above < h.size <= until]
        self.heads += [head for head in remembered if head.size not in known]
        self.heads.sort(key=lambda head: head.size)

    def _check_note(self, row: StoredHead) -> None:
        judged = self._judge.judge(row.size, row.root, row.note)
        for kind, reason in judged.faults:
            noun = "anchor" if self._of_anchors else "checkpoint"
            self.faults.add(row.size - 1, kind, f"the {noun} of size {row.size}: {reason}")
        if judged.head is None or judged.head.size != row.size:
            return
        self.heads.append(SignedTreeHead(row.size, judged.head.root))
        if not row.size:
            return  # it covers no entry, so it passes no check of entries
        self.passed.add("anchors" if self._of_anchors else "checkpoints")
        if judged.classical:
            self.passed.add("classical_signature")
        if judged.pq:
            self.passed.add("pq_signature")

    def _check_leaf(self, row: StoredHead) -> None:
        if row.idx is None or row.note is None:
            return
        nonce = row.nonce or b""
        if len(nonce) != NONCE_BYTES or blind(nonce, row.note) != row.leaf:
            self.faults.add(
                row.size - 1,
                "anchor_leaf_mismatch",
                f"leaf {row.idx} of the anchor log does not commit to the stored checkpoint of "
                f"size {row.size}",
            )


def sizes_of(segment: Segment) -> tuple[int, int]:
    """The bounds of a segment's sizes: they are above the first, and up to the second."""
    above = segment.first if segment.first > 0 else MIN_BIGINT
    return above, MAX_BIGINT if segment.beyond else segment.last + 1


class SignedLogs:
    """Reads tiles, checkpoints and anchors, and checks them against leaf hashes."""

    def __init__(self, signed: SignedExtent, org_id: int, trees: TreeReader) -> None:
        self._signed = signed
        self._org_id = org_id
        self._trees = trees
        trust = signed.trust
        self._trail_judge = NoteJudge(trust.trail, TRAIL_KINDS)
        self._anchor_judge = NoteJudge(trust.anchors, ANCHOR_KINDS)
        self._attestations = Attestations(trust)
        self._store: TileStore | None = None

    async def trail_part(self, segment: Segment, rows: SegmentLeaves | None) -> TreePart:
        """Check the tree over a trail's segment; ``rows`` None for a segment beyond the trail."""
        signed = self._signed
        heads = HeadsOfSegment(signed.trust.trail, self._trail_judge, TRAIL_KINDS)
        await heads.read(self._trees, self._org_id, segment)
        if rows is None:
            return _without_tree(heads.faults, heads.passed)
        stored = await self._tiles(self._org_id, segment)
        tiles = SegmentTiles(stored, signed.trail.signed, signed.trail.needed, TRAIL_KINDS)
        return tree_part(rows, tiles, heads.heads, heads.faults, heads.passed)

    async def range_part(self, segment: Segment, rows: SegmentLeaves | None) -> TreePart:
        """Prove a range's segment in the signed tree; ``rows`` None for one beyond the trail."""
        # Imported here, as the workers of a whole trail do not need it.
        from ledger.core.verification.trees.range_proof import RangeProof, TileStore  # noqa: PLC0415

        heads = HeadsOfSegment(self._signed.trust.trail, self._trail_judge, TRAIL_KINDS)
        await heads.read(self._trees, self._org_id, segment)
        if rows is None:
            return _without_tree(heads.faults, heads.passed)
        self._store = self._store or TileStore(self._org_id)
        proof = RangeProof(self._signed.trail.head, rows, heads.faults, heads.passed)
        await proof.check(self._store, self._trees, heads.heads)
        return proof.part()

    async def anchors(self, segment: Segment) -> SegmentResult:
        """Check a segment of the anchor log: its leaves, tiles, anchors and their attestations."""
        signed = self._signed
        heads = HeadsOfSegment(signed.trust.anchors, self._anchor_judge, ANCHOR_KINDS)
        await heads.read(self._trees, ANCHOR_LOG, segment)
        await self._attestations.read(self._trees, sizes_of(segment), heads.faults, heads.passed)
        if segment.beyond:
            part = _without_tree(heads.faults, heads.passed)
        else:
            rows = await _leaves(self._trees.leaves(segment.first, segment.last), segment, heads)
            stored = await self._tiles(ANCHOR_LOG, segment)
            tiles = SegmentTiles(stored, signed.anchors.signed, signed.anchors.needed, ANCHOR_KINDS)
            part = tree_part(rows, tiles, heads.heads, heads.faults, heads.passed)
        part = msgspec.structs.replace(part, attested=dict(self._attestations.attested))
        return SegmentResult(0, 0, 0, 0, 0, [], 0, [], tree=part)

    async def _tiles(self, org_id: int, segment: Segment) -> dict[int, bytes]:
        first, last = segment.first // TILE_WIDTH, segment.last // TILE_WIDTH
        return await self._trees.tiles(org_id, 0, first, last)


async def _leaves(
    stored: AsyncIterator[tuple[int, bytes | None]], segment: Segment, heads: HeadsOfSegment
) -> SegmentLeaves:
    """The leaf hashes of the anchor log's leaves; adds one fault for each gap."""
    leaves: list[bytes | None] = []

    def pass_gap(until: int) -> None:
        start = segment.first + len(leaves)
        if until > start:
            reason = spell_range(start, until - 1, "missing from the anchor log")
            heads.faults.add(start, "anchor_leaf_missing", reason)
            leaves.extend([None] * (until - start))

    async for idx, leaf in stored:
        pass_gap(idx)
        well_formed = leaf is not None and len(leaf) == LEAF_BYTES
        leaves.append(leaf_hash(leaf) if leaf is not None and well_formed else None)
        if not well_formed:
            reason = f"leaf {idx} of the anchor log does not have {LEAF_BYTES} bytes"
            heads.faults.add(idx, ANCHOR_KINDS.rewritten, reason)
    pass_gap(segment.last + 1)
    return SegmentLeaves(segment.first, leaves, {})


def _without_tree(faults: FaultList, passed: set[str]) -> TreePart:
    return TreePart(
        [],
        None,
        faults=faults.named,
        fault_count=faults.count,
        kinds=sorted(faults.kinds),
        passed=sorted(passed),
    )
