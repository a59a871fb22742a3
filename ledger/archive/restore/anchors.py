"""Restores the anchor log with the first org, and assigns each org its leaves in the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ledger.anchor import NONCE_BYTES, blind
from ledger.archive.format.layout import NONCES
from ledger.archive.format.records import AnchoredAt, ArchivedCheckpoint
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.restore.attested import AttestedRestore
from ledger.archive.restore.tree import TreeRestore
from ledger.archive.targets import Target
from ledger.archive.verification.anchoring import TrustedAttestors
from ledger.entry import to_datetime
from ledger.errors import FormatError, RestoreRefused
from ledger.log_keys import KeyPins, LogKeyHistory, open_anchor
from ledger.log_keys.history import OpenedAnchor
from ledger.merkle import HASH_BYTES, leaf_hash
from ledger.storage.restoring import RestoreTransaction
from ledger.storage.restoring_anchors import UNKNOWN_ORG, StoredLeaf
from ledger.storage.trees import ANCHOR_LOG
from ledger.tiles import TILE_WIDTH, EntryTile, tile_in

LEAVES_AT_ONCE: Final = 1_000


class AnchorsRestore:
    """Restores the anchor log into a database that has nothing of it, or at least as much.

    ``end`` is the size and root of the newest signed anchor in the database afterwards. Raises
    RestoreRefused.
    """

    def __init__(
        self,
        transaction: RestoreTransaction,
        reader: ArchiveReader,
        pins: KeyPins,
        attestors: TrustedAttestors,
        row_key: bytes,
    ) -> None:
        self.end = (0, b"")
        self.warnings: list[str] = []
        """The parts of the archive that were not restored, and why."""
        self._had_log = False
        self._transaction = transaction
        self._reader = reader
        self._pins = pins
        self._attestors = attestors
        self._row_key = row_key

    async def restore(self, orgs: Sequence[tuple[str, int]], target: Target) -> None:
        """Restore the log and assign the leaves of these orgs, each given as (slug, org_id)."""
        note = await self._reader.checkpoint()
        if note is not None:
            await self._restore_log(note)
        for slug, org_id in orgs:
            end = await self._claim(ArchiveReader(target, slug), org_id)
            await self._add_account(target.url, org_id, end)
        # A checkpoint whose leaf is in no archived anchor gets a new leaf, if it is the newest.
        await self._transaction.anchors.anew([org_id for _, org_id in orgs])
        if not self._had_log:
            await self._add_account(target.url, ANCHOR_LOG, 0)
            await self._transaction.anchors.add_attested(target.url, self._row_key)

    async def _add_account(self, target: str, org_id: int, leaves: int) -> None:
        await self._transaction.anchors.add_account(target, org_id, leaves, self._row_key)

    async def _restore_log(self, note: bytes) -> None:
        history = await self._reader.key_history()
        history.check_pins(self._pins)
        opened = self._opened(note, history)
        size, root = opened.checkpoint.size, opened.checkpoint.root
        stored, stored_root, begun = await self._transaction.anchors.begun()
        if begun:
            if stored < size or await self._transaction.anchors.note(size) != note:
                raise RestoreRefused(
                    "the log of all checkpoints in the database differs from the archived one, or "
                    "is shorter: restore into a new database before a server signs in it"
                )
            self.end = (stored, stored_root)
            self._had_log = True
            return
        tree = TreeRestore(
            self._transaction,
            ANCHOR_LOG,
            self._reader.history(),
            lambda row: self._root(row, history),
        )
        for tile in range(-(-size // TILE_WIDTH)):
            leaves = await self._reader.leaves(EntryTile(tile, tile_in(size, 0, tile).width))
            if any(len(leaf) != HASH_BYTES for leaf in leaves):
                raise RestoreRefused(
                    f"bundle {tile} of the log of all checkpoints has a leaf that is not "
                    f"{HASH_BYTES} bytes long"
                )
            await self._transaction.anchors.add_leaves(
                [
                    StoredLeaf(idx, UNKNOWN_ORG, 0, bytes(NONCE_BYTES), leaf)
                    for idx, leaf in enumerate(leaves, tile * TILE_WIDTH)
                ]
            )
            for leaf in leaves:
                await tree.add(leaf_hash(leaf))
        await tree.end(size, root, to_datetime(opened.time_s * 1_000_000))
        attested = AttestedRestore(self._transaction.anchors, self._reader, self._attestors)
        self.warnings += await attested.restore(size)
        self.end = (size, root)

    def _opened(self, note: bytes, history: LogKeyHistory) -> OpenedAnchor:
        try:
            return open_anchor(note, history)
        except FormatError as error:
            raise RestoreRefused(f"an archived anchor can't be verified: {error}") from error

    def _root(self, row: ArchivedCheckpoint, history: LogKeyHistory) -> bytes:
        checkpoint = self._opened(row.note, history).checkpoint
        if checkpoint.size != row.size:
            raise RestoreRefused(
                f"the anchor archived for size {row.size} states size {checkpoint.size}"
            )
        return checkpoint.root

    async def _claim(self, reader: ArchiveReader, org_id: int) -> int:
        """Assign this org the leaves that commit to its checkpoints.

        Returns the index after the last of them: the next archiving of nonces begins there. A
        row is superseded where its leaf commits to something else or its index is beyond the
        archived log: the leaf was lost with a database, and its index was used again.
        """
        batch: list[AnchoredAt] = []
        end = superseded = 0
        async for row in reader.nonces():
            if row.idx >= self.end[0] or len(row.nonce) != NONCE_BYTES:
                superseded += 1
                continue
            batch.append(row)
            if len(batch) == LEAVES_AT_ONCE:
                claimed = await self._claim_some(org_id, batch)
                superseded += len(batch) - len(claimed)
                end, batch = max([end, *claimed]), []
        claimed = await self._claim_some(org_id, batch)
        superseded += len(batch) - len(claimed)
        end = max([end, *claimed])
        if superseded:
            self.warnings.append(
                f"archived leaves of {reader.org} that do not match the log of all checkpoints: "
                f"{superseded}. Its newest checkpoint is anchored again where it has no other leaf"
            )
            end = await _free_span_start(reader, end)
        return end

    async def _claim_some(self, org_id: int, rows: Sequence[AnchoredAt]) -> list[int]:
        """Claim the rows whose leaves commit to their checkpoints; return the indexes after them."""
        found = await self._transaction.anchors.leaves_at(
            org_id, [(row.idx, row.size) for row in rows]
        )
        leaves = {(leaf.idx, size): (leaf, note) for leaf, size, note in found}
        confirmed = []
        for row in rows:
            leaf, note = leaves.get((row.idx, row.size), (None, b""))
            if (
                leaf is not None
                and leaf.org_id in {UNKNOWN_ORG, org_id}
                and blind(row.nonce, note) == leaf.leaf
            ):
                confirmed.append(row)
        if confirmed:
            await self._transaction.anchors.claim(
                org_id, [(row.idx, row.size, row.nonce) for row in confirmed]
            )
        return [row.idx + 1 for row in confirmed]


async def _free_span_start(reader: ArchiveReader, end: int) -> int:
    """Return the largest index up to ``end`` at which no archived span of nonces begins.

    A new span that began where an old one does could have the old one's key and other bytes.
    """
    while end and [listed async for listed in reader.objects(f"{NONCES}{end:016}-")]:
        end -= 1
    return end
