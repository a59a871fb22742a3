"""Proofs from stored tiles: of an entry in a checkpoint, of a checkpoint in an anchor.

Every proof is verified against the signed root before it is returned: a
wrong proof would accuse the signer of a fault of the storage.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from ledger import merkle, tiles
from ledger.bounded import BoundedCache
from ledger.errors import FROZEN, MerkleError, ProblemType, QuireError, StorageError
from ledger.note import add_signatures, parse_signatures
from ledger.storage import bundle_reads, history, trees
from ledger.storage.database import Database
from ledger.storage.trees import ANCHOR_LOG, AnchorLeaf, StoredCheckpoint, StoredToken

ANCHORING_TTL_S: Final = 1.0
MAX_ANCHORINGS: Final = 1_000
"""Each takes some kilobytes, more with many witnesses and authorities."""


class DamagedTree(StorageError):
    """Stored tiles, checkpoints or anchors do not match the signed roots."""


class NotYetSigned(QuireError):
    """The requested entry or size is not in a checkpoint yet; the signer follows within seconds."""

    problem_type = ProblemType(
        "not-yet-signed",
        409,
        "Not in a checkpoint yet",
        "entry 41 is not in a checkpoint yet; retry in a moment",
    )


class SigningStopped(QuireError):
    """The requested entry is in no checkpoint, and none is signed before an operator intervenes.

    ``reason`` is why the signer stopped.
    """

    problem_type = FROZEN

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoSuchCheckpoint(QuireError):
    """No checkpoint of this size was signed, or it does not include the entry."""


class AnchorInclusion(NamedTuple):
    """A checkpoint's leaf in the anchor log and the anchor that includes it.

    ``cosignatures`` are the signature lines of witnesses for the anchor; ``note`` is the anchor's
    note with these lines.
    """

    leaf: AnchorLeaf
    hashes: list[bytes]
    anchor: StoredCheckpoint
    cosignatures: bytes
    note: bytes
    tokens: list[StoredToken]


class Proven(NamedTuple):
    """An entry's inclusion in a checkpoint; ``anchoring`` is None until the checkpoint is anchored."""

    seq: int
    leaf_hash: bytes
    hashes: list[bytes]
    checkpoint: StoredCheckpoint
    anchoring: AnchorInclusion | None


class Prover:
    """Proves entries in checkpoints that include them.

    The anchoring of a checkpoint is the same for all its entries, so it is cached for
    ANCHORING_TTL_S. Raises DamagedTree.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._anchorings: BoundedCache[int, tuple[AnchorInclusion | None, float]] = BoundedCache(
            MAX_ANCHORINGS
        )
        """By size of the tree, for each org."""

    async def prove(
        self,
        org_id: int,
        leaf_hashes: Mapping[int, bytes],
        checkpoint: StoredCheckpoint,
        *,
        anchored: bool = False,
    ) -> list[Proven]:
        """The proof of each of these entries (hash by seq), in their order.

        ``anchored``: the checkpoint is known to be anchored, even if the cache says it is not.
        """
        hashes = await inclusion(self._database, org_id, leaf_hashes, checkpoint)
        anchoring = await self._anchoring(org_id, checkpoint.size, anchored=anchored)
        return [
            Proven(seq, leaf_hash, hashes[seq], checkpoint, anchoring)
            for seq, leaf_hash in leaf_hashes.items()
        ]

    async def _anchoring(self, org_id: int, size: int, *, anchored: bool) -> AnchorInclusion | None:
        found = self._anchorings.get(size, org_id)
        now = time.monotonic()
        if found is not None and found[1] + ANCHORING_TTL_S > now and (found[0] or not anchored):
            return found[0]
        anchoring = await anchoring_of(self._database, org_id, size)
        self._anchorings.put(size, (anchoring, now), org_id)
        return anchoring


async def checkpoint_for(
    database: Database,
    org_id: int,
    seq: int,
    newest: StoredCheckpoint | None,
    *,
    size: int | None,
    anchored: bool,
) -> StoredCheckpoint:
    """The checkpoint to prove an entry in: the newest, the newest anchored, or the one of ``size``.

    Raises NotYetSigned or SigningStopped, and NoSuchCheckpoint for a given ``size``.
    """
    if size is not None:
        found = await trees.checkpoint_at(database, org_id, size)
        if found is None or found.size <= seq:
            raise NoSuchCheckpoint(f"no checkpoint of size {size} includes entry {seq}")
        return found
    found = await history.newest_anchored(database, org_id) if anchored else newest
    if found is not None and found.size > seq:
        return found
    raise await not_covered(database, org_id, seq, anchored=anchored)


async def not_covered(
    database: Database, org_id: int, seq: int, *, anchored: bool
) -> NotYetSigned | SigningStopped:
    """The error for an entry that no checkpoint (or no anchored one) includes."""
    tree = await trees.tree(database, org_id)
    if tree is not None and tree.stopped is not None and tree.size <= seq:
        return SigningStopped(
            f"entry {seq} is not signed: signing of this org stopped, as its trail was found "
            "damaged",
            tree.stopped,
        )
    kind = "an anchored checkpoint" if anchored else "a checkpoint"
    return NotYetSigned(f"entry {seq} is not in {kind} yet; retry in a moment")


async def anchoring_of(database: Database, org_id: int, size: int) -> AnchorInclusion | None:
    """The inclusion of a checkpoint in the anchor log, or None while no anchor includes it.

    The anchor is the one that bundles have: the first timestamped, else the first cosigned,
    else the first.
    """
    leaf = await trees.anchor_leaf(database, org_id, size)
    if leaf is None:
        return None
    anchor = await bundle_reads.attested_anchor(database, leaf.idx)
    return None if anchor is None else await anchoring_by(database, leaf, anchor)


async def anchoring_by(
    database: Database, leaf: AnchorLeaf, anchor: StoredCheckpoint
) -> AnchorInclusion:
    """The inclusion of a leaf in this anchor, with the anchor's attestations. Raises DamagedTree."""
    leaf_hashes = {leaf.idx: merkle.leaf_hash(leaf.leaf)}
    hashes = await inclusion(database, ANCHOR_LOG, leaf_hashes, anchor)
    lines = await cosignature_lines(database, anchor)
    return AnchorInclusion(
        leaf,
        hashes[leaf.idx],
        anchor,
        lines,
        _with_signatures(anchor.note, lines),
        await trees.tokens(database, anchor.size),
    )


async def cosigned(database: Database, anchor: StoredCheckpoint) -> bytes:
    """The note of an anchor with the newest cosignature of each witness appended."""
    return _with_signatures(anchor.note, await cosignature_lines(database, anchor))


async def cosignature_lines(database: Database, anchor: StoredCheckpoint) -> bytes:
    """The newest cosignature of each witness for an anchor, as lines; b"" if there are none."""
    found = await trees.newest_cosignatures(database, anchor.size)
    return b"".join(one.line for one in found)


def _with_signatures(note: bytes, lines: bytes) -> bytes:
    return add_signatures(note, parse_signatures(lines)) if lines else note


async def consistency(database: Database, org_id: int, first: int, second: int) -> list[bytes]:
    """The consistency proof between two sizes of a signed tree, ``first <= second``.

    It is verified if both sizes have checkpoints; other sizes have no
    signed root to verify it against. Raises NotYetSigned for a size that
    the signed tree does not have yet, and DamagedTree.
    """
    tree = await trees.tree(database, org_id)
    size = 0 if tree is None else tree.size
    if second > size:
        raise NotYetSigned(f"the signed tree has size {size} and does not reach {second} yet")
    if first in (0, second):  # no hash is needed
        return []
    stored = await trees.tiles(database, org_id, tiles.tiles_for_consistency(first, second))
    hashes = tiles.consistency_proof(first, second, stored)
    older = await trees.checkpoint_at(database, org_id, first)
    newer = await trees.checkpoint_at(database, org_id, second)
    if older is not None and newer is not None:
        try:
            merkle.verify_consistency(first, second, older.root, newer.root, hashes)
        except MerkleError as error:
            raise DamagedTree(
                f"the stored tiles do not lead from the checkpoint of size {first} to the one of "
                f"size {second}: {error}. Run a full verification of this trail"
            ) from None
    return hashes


async def inclusion(
    database: Database,
    org_id: int,
    leaf_hashes: Mapping[int, bytes],
    checkpoint: StoredCheckpoint,
) -> dict[int, list[bytes]]:
    """The inclusion proof of each of these leaves (hash by index). Raises DamagedTree."""
    size = checkpoint.size
    needed = [tile for index in leaf_hashes for tile in tiles.tiles_for_inclusion(index, size)]
    stored = await trees.tiles(database, org_id, needed)
    found = {index: tiles.inclusion_proof(index, size, stored) for index in leaf_hashes}
    for index, hashes in found.items():
        try:
            merkle.verify_inclusion(index, size, leaf_hashes[index], hashes, checkpoint.root)
        except MerkleError as error:
            raise DamagedTree(
                f"the stored tiles do not lead from leaf {index} to the checkpoint of size "
                f"{size}: {error}. Run a full verification of this trail"
            ) from None
    return found
