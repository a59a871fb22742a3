"""Whether one entry is in the signed tree: by a Merkle proof, and by nothing else."""

from __future__ import annotations

from typing import NamedTuple

from ledger import merkle, tiles
from ledger.chain import Entry, Fault
from ledger.core.verification.faults import TRAIL_KINDS
from ledger.core.verification.trust import NoteJudge, Trust
from ledger.entry import entry_hash
from ledger.errors import MerkleError, TileError
from ledger.storage import trees
from ledger.storage.database import Database
from ledger.storage.trees import MissingTile
from ledger.verdict import NOT_CHECKED, Check


class Inclusion(NamedTuple):
    """The verdict, and the fault that is the reason for False."""

    verdict: Check
    fault: Fault | None = None


async def check_inclusion(database: Database, row: Entry, trust: Trust | None) -> Inclusion:
    """Prove a stored entry's leaf in the newest checkpoint, which a trusted key must have signed.

    Not checked before a checkpoint covers the entry, and without trusted keys.
    """
    checkpoint = await trees.newest_checkpoint(database, row.org_id)
    if trust is None or checkpoint is None or checkpoint.size <= row.seq:
        return Inclusion(NOT_CHECKED)
    size = checkpoint.size
    judged = NoteJudge(trust.trail, TRAIL_KINDS).judge(size, checkpoint.root, checkpoint.note)
    for kind, reason in judged.faults:
        return _fault(row, kind, f"the checkpoint of size {size}: {reason}")
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
