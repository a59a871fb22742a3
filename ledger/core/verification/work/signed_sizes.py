"""How far the signed logs reach, before a verification begins."""

from __future__ import annotations

from typing import Final

from ledger.checkpoint import SignedHead
from ledger.core.verification.work.faults import ANCHOR_KINDS, TRAIL_KINDS, LogKinds
from ledger.core.verification.work.segment import MAX_BIGINT
from ledger.core.verification.work.trust import LogTrust, NoteJudge, Trust
from ledger.core.verification.work.wire import LogExtent, Signed
from ledger.merkle import EMPTY_ROOT
from ledger.storage.tree_out import ANCHOR_LOG, TreeReader

TRIES: Final = 1_000
"""Checkpoints that are looked at, from the largest down, until one is rightly signed."""
AT_ONCE: Final = 50


async def find_signed(trees: TreeReader, org_id: int, trust: Trust) -> Signed:
    """The sizes up to which a trusted key signed, by what is stored; 0 where none is found."""
    trail = await _largest(trees, org_id, trust.trail, TRAIL_KINDS)
    anchors = await _largest(trees, ANCHOR_LOG, trust.anchors, ANCHOR_KINDS)
    return Signed(trust, LogExtent(trail, trust.trail), LogExtent(anchors, trust.anchors))


async def _largest(trees: TreeReader, org_id: int, log: LogTrust, kinds: LogKinds) -> SignedHead:
    judge = NoteJudge(log, kinds)
    below = MAX_BIGINT
    for _ in range(TRIES // AT_ONCE):
        rows = await trees.newest(org_id, below, AT_ONCE)
        for size, root, note in rows:
            judged = judge.judge(size, root, note)
            if judged.head is not None and judged.head.size == size:
                return SignedHead(size, judged.head.root)
        if len(rows) < AT_ONCE:
            break
        below = rows[-1][0]
    return SignedHead(0, EMPTY_ROOT)
