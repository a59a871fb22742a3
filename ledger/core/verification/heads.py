"""A worker's look at the signed heads of one segment: notes, signatures, anchor leaves.

Each stored checkpoint belongs to the segment in which the last entry stands that
it covers, so the signatures of a long history are verified by all workers.
"""

from __future__ import annotations

from ledger.anchor import NONCE_BYTES, blind
from ledger.core.verification.faults import ANCHOR_KINDS, LogKinds
from ledger.core.verification.segment import MAX_BIGINT, MIN_BIGINT, Segment
from ledger.core.verification.tree_part import FaultList
from ledger.core.verification.trust import LogTrust, NoteJudge, SignedHead
from ledger.storage.tree_out import StoredHead, TreeReader


class HeadsOfSegment:
    """Reads and judges them; ``heads`` are those to hold against the tree, smallest first."""

    def __init__(self, log: LogTrust, judge: NoteJudge, kinds: LogKinds) -> None:
        self.heads: list[SignedHead] = []
        self.faults = FaultList()
        self.held: set[str] = set()
        self._log = log
        self._judge = judge
        self._of_anchors = kinds is ANCHOR_KINDS

    async def read(self, trees: TreeReader, org_id: int, segment: Segment) -> None:
        """Read what the segment covers: sizes above its first seq, up to past its last."""
        above, until = sizes_of(segment)
        last: int | None = None
        async for row in trees.heads(org_id, above, until):
            if row.size != last:
                self._take(row)
                last = row.size
            self._check_leaf(row)
        known = {head.size for head in self.heads}
        remembered = [h for h in self._log.remembered if above < h.size <= until]
        self.heads += [head for head in remembered if head.size not in known]
        self.heads.sort(key=lambda head: head.size)

    def _take(self, row: StoredHead) -> None:
        judged = self._judge.judge(row.size, row.root, row.note)
        for kind, reason in judged.faults:
            what = "anchor" if self._of_anchors else "checkpoint"
            self.faults.add(row.size - 1, kind, f"the {what} of size {row.size}: {reason}")
        if judged.head is None or judged.head.size != row.size:
            return
        self.heads.append(SignedHead(row.size, judged.head.root))
        if not row.size:
            return  # it covers no entry: no check of entries holds by it
        self.held.add("anchors" if self._of_anchors else "checkpoints")
        if judged.classical:
            self.held.add("classical_signature")
        if judged.pq:
            self.held.add("pq_signature")

    def _check_leaf(self, row: StoredHead) -> None:
        if row.idx is None or row.note is None:
            return
        nonce = row.nonce or b""
        if len(nonce) != NONCE_BYTES or blind(nonce, row.note) != row.leaf:
            self.faults.add(
                row.size - 1,
                "anchor_leaf_mismatch",
                f"leaf {row.idx} of the anchor log does not commit to the checkpoint of size "
                f"{row.size} that is stored",
            )


def sizes_of(segment: Segment) -> tuple[int, int]:
    """Sizes above the first and up to the second of these are a segment's."""
    above = segment.first if segment.first > 0 else MIN_BIGINT
    return above, MAX_BIGINT if segment.beyond else segment.last + 1
