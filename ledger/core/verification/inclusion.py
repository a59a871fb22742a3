"""Whether one entry is in the signed tree: by a Merkle proof, and by nothing else."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from ledger import merkle, tiles
from ledger.chain import Entry, Fault
from ledger.core.verification.work.extent import SETTLE_POLL_S, SETTLE_S
from ledger.core.verification.work.faults import TRAIL_KINDS
from ledger.core.verification.work.trust import NoteJudge, Trust
from ledger.entry import entry_hash
from ledger.errors import MerkleError, TileError
from ledger.storage import search, trees
from ledger.storage.database import Database
from ledger.storage.trees import MissingTile, StoredCheckpoint
from ledger.verdict import NOT_CHECKED, Check


class Inclusion(NamedTuple):
    """The verdict, and the fault that is the reason for False.

    ``expected``: a tree with the entry is known to be signed, so its inclusion is asked for.
    """

    verdict: Check
    fault: Fault | None = None
    expected: bool = False


async def check_inclusion(database: Database, row: Entry, trust: Trust | None) -> Inclusion:
    """Prove a stored entry's leaf in the newest checkpoint, which a trusted key must have signed.

    Not checked before a checkpoint covers the entry, and without trusted keys. False
    where a checkpoint that covered it is gone.
    """
    if trust is None:
        return Inclusion(NOT_CHECKED)
    known = max((head.size for head in trust.trail.remembered), default=0)
    checkpoint = await trees.newest_checkpoint(database, row.org_id)
    deadline = time.monotonic() + SETTLE_S
    while (checkpoint is None or checkpoint.size <= row.seq) and row.seq < known:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(SETTLE_POLL_S)
        checkpoint = await trees.newest_checkpoint(database, row.org_id)
    if checkpoint is None or checkpoint.size <= row.seq:
        return await _uncovered(database, row, known)
    return _doubt(row, checkpoint, trust) or await _prove(database, row, checkpoint)


async def _uncovered(database: Database, row: Entry, known: int) -> Inclusion:
    """No checkpoint that is stored covers the entry: perhaps it is young, perhaps one is gone.

    The signer remembers the size ``known`` before the database has its checkpoint. So only one
    that is larger than the trail tells of a loss.
    """
    head_seq, _hash, _time = await search.head(database, row.org_id)
    if known <= max(row.seq, head_seq + 1):
        return Inclusion(NOT_CHECKED, expected=row.seq < known)
    reason = f"a tree of {known} entries was signed, and no checkpoint that is stored covers it"
    return _fault(row, TRAIL_KINDS.rolled_back, reason)


def _doubt(row: Entry, checkpoint: StoredCheckpoint, trust: Trust) -> Inclusion | None:
    """What is wrong with the checkpoint itself, if anything is."""
    size = checkpoint.size
    if any(head.size == size and head.root != checkpoint.root for head in trust.trail.remembered):
        return _fault(row, TRAIL_KINDS.forked, f"another root was signed for size {size}")
    judged = NoteJudge(trust.trail, TRAIL_KINDS).judge(size, checkpoint.root, checkpoint.note)
    for kind, reason in judged.faults:
        return _fault(row, kind, f"the checkpoint of size {size}: {reason}")
    return None


async def _prove(database: Database, row: Entry, checkpoint: StoredCheckpoint) -> Inclusion:
    size = checkpoint.size
    try:
        stored = await trees.tiles(database, row.org_id, tiles.tiles_for_inclusion(row.seq, size))
        proof = tiles.inclusion_proof(row.seq, size, stored)
        merkle.verify_inclusion(row.seq, size, entry_hash(row.leaf), proof, checkpoint.root)
    except MissingTile as error:
        return _fault(row, TRAIL_KINDS.tile_missing, str(error))
    except (MerkleError, TileError) as error:
        return _fault(row, "not_included", f"it is not in the tree signed at size {size}: {error}")
    return Inclusion(verdict=True)


def _fault(row: Entry, kind: str, reason: str) -> Inclusion:
    return Inclusion(verdict=False, fault=Fault(row.seq, kind, reason))


async def signed_size(database: Database, org_id: int, trust: Trust | None) -> int:
    """How many entries of a trail are known to be signed: by the newest checkpoint, or remembered."""
    if trust is None:
        return 0
    known = max((head.size for head in trust.trail.remembered), default=0)
    checkpoint = await trees.newest_checkpoint(database, org_id)
    if checkpoint is None or checkpoint.size <= known:
        return known
    judge = NoteJudge(trust.trail, TRAIL_KINDS)
    judged = judge.judge(checkpoint.size, checkpoint.root, checkpoint.note)
    return known if judged.faults else checkpoint.size
