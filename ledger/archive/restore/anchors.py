"""The log of all checkpoints comes back with the first org, and each org's part in it with it."""

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

PLACES_AT_ONCE: Final = 1_000


class AnchorsRestore:
    """Restores the anchor log into a database that has none of it, or has at least as much.

    ``end`` is the size and root that the database's log then has signed. Raises RestoreRefused.
    """

    def __init__(
        self,
        transaction: RestoreTransaction,
        reader: ArchiveReader,
        pins: KeyPins,
        attestors: TrustedAttestors,
    ) -> None:
        self.end = (0, b"")
        self.warnings: list[str] = []
        """What of the archive did not come back, and why."""
        self._begun = False
        self._transaction = transaction
        self._reader = reader
        self._pins = pins
        self._attestors = attestors

    async def restore(self, orgs: Sequence[tuple[str, int]], target: Target) -> None:
        """Restore the log, and whose leaves these orgs' are: (slug, org_id)."""
        note = await self._reader.checkpoint()
        if note is not None:
            await self._log(note)
        for slug, org_id in orgs:
            end = await self._claim(ArchiveReader(target, slug), org_id)
            await self._transaction.anchors.add_account(target.url, org_id, end)
        # Their leaves were in no archived anchor: the newest checkpoints get new ones.
        await self._transaction.anchors.anew([org_id for _, org_id in orgs])
        if not self._begun:
            await self._transaction.anchors.add_account(target.url, ANCHOR_LOG, 0)
            await self._transaction.anchors.add_attested(target.url)

    async def _log(self, note: bytes) -> None:
        history = await self._reader.key_history()
        history.check_pins(self._pins)
        opened = self._opened(note, history)
        size, root = opened.checkpoint.size, opened.checkpoint.root
        stored, stored_root, begun = await self._transaction.anchors.begun()
        if begun:
            if stored < size or await self._transaction.anchors.note(size) != note:
                raise RestoreRefused(
                    "the database has another log of all checkpoints than the archive, or less of "
                    "it: restore into a new database, before a server signs in it"
                )
            self.end = (stored, stored_root)
            self._begun = True
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
                raise RestoreRefused(f"bundle {tile} of the log of all checkpoints is none")
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
            raise RestoreRefused(f"an archived anchor: {error}") from error

    def _root(self, row: ArchivedCheckpoint, history: LogKeyHistory) -> bytes:
        checkpoint = self._opened(row.note, history).checkpoint
        if checkpoint.size != row.size:
            raise RestoreRefused(f"the anchor of size {row.size} says size {checkpoint.size}")
        return checkpoint.root

    async def _claim(self, reader: ArchiveReader, org_id: int) -> int:
        """Say which leaves are this org's: those that commit to its checkpoints.

        Returns the place in the log after the last of them: nonces are archived from there on. A
        row that names another leaf, or a place beyond the archived log, proves nothing: its leaf
        was lost with a database, and the place was given again.
        """
        batch: list[AnchoredAt] = []
        end = superseded = 0
        async for row in reader.nonces():
            if row.idx >= self.end[0] or len(row.nonce) != NONCE_BYTES:
                superseded += 1
                continue
            batch.append(row)
            if len(batch) == PLACES_AT_ONCE:
                standing = await self._claim_some(org_id, batch)
                superseded += len(batch) - len(standing)
                end, batch = max([end, *standing]), []
        standing = await self._claim_some(org_id, batch)
        superseded += len(batch) - len(standing)
        end = max([end, *standing])
        if superseded:
            self.warnings.append(
                f"{superseded} archived place(s) of {reader.org} in the log of all checkpoints do "
                "not stand; its newest checkpoint is anchored anew where that had no other"
            )
            end = await _first_key(reader, end)
        return end

    async def _claim_some(self, org_id: int, rows: Sequence[AnchoredAt]) -> list[int]:
        """Claim those that stand; returns the places after them."""
        found = await self._transaction.anchors.leaves_at(
            org_id, [(row.idx, row.size) for row in rows]
        )
        leaves = {(leaf.idx, size): (leaf, note) for leaf, size, note in found}
        standing = []
        for row in rows:
            leaf, note = leaves.get((row.idx, row.size), (None, b""))
            if (
                leaf is not None
                and leaf.org_id in {UNKNOWN_ORG, org_id}
                and blind(row.nonce, note) == leaf.leaf
            ):
                standing.append(row)
        if standing:
            await self._transaction.anchors.claim(
                org_id, [(row.idx, row.size, row.nonce) for row in standing]
            )
        return [row.idx + 1 for row in standing]


async def _first_key(reader: ArchiveReader, end: int) -> int:
    """The place up to ``end`` from which no archived span goes on: its key is free."""
    while end and [listed async for listed in reader.objects(f"{NONCES}{end:016}-")]:
        end -= 1
    return end
