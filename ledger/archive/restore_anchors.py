"""The log of all checkpoints comes back with the first org, and each org's part in it with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ledger.anchor import NONCE_BYTES, blind
from ledger.archive.reader import ArchiveReader
from ledger.archive.records import AnchoredAt, Signed
from ledger.archive.restore_tree import TreeRestore
from ledger.archive.targets import Target
from ledger.entry import to_datetime
from ledger.errors import FormatError, RestoreRefused
from ledger.log_keys import KeyPins, LogKeyHistory, open_anchor
from ledger.log_keys.opening import OpenedAnchor
from ledger.merkle import HASH_BYTES, leaf_hash
from ledger.note import parse_signatures
from ledger.storage.restoring import RestoreTransaction
from ledger.storage.restoring_anchors import UNKNOWN_ORG, StoredLeaf
from ledger.storage.trees import ANCHOR_LOG
from ledger.tiles import TILE_WIDTH, EntryTile, tile_in
from ledger.timestamp import stated_time

PLACES_AT_ONCE: Final = 1_000
ATTESTED_AT_ONCE: Final = 200
TAIL_MAX: Final = 1_000_000
"""Leaves that no archived anchor covers: those of some seconds."""


class AnchorsRestore:
    """Restores the anchor log into a database that has none of it, or has at least as much.

    ``end`` is the size and root that the database's log then has signed. Raises RestoreRefused.
    """

    def __init__(
        self, transaction: RestoreTransaction, reader: ArchiveReader, pins: KeyPins
    ) -> None:
        self.end = (0, b"")
        self.unplaced = 0
        """Leaves of the restored orgs that were never anchored and have no place now."""
        self._begun = False
        self._transaction = transaction
        self._reader = reader
        self._pins = pins

    async def restore(self, orgs: Sequence[tuple[str, int]], target: Target) -> None:
        """Restore the log, and whose leaves these orgs' are: (slug, org_id)."""
        note = await self._reader.checkpoint()
        if note is not None:
            await self._log(note)
        tail: dict[int, StoredLeaf] = {}
        for slug, org_id in orgs:
            end = await self._claim(ArchiveReader(target, slug), org_id, tail)
            await self._transaction.anchors.add_account(target.url, org_id, end)
        await self._add_tail(tail)
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
        await self._attested(size)
        self.end = (size, root)

    def _opened(self, note: bytes, history: LogKeyHistory) -> OpenedAnchor:
        try:
            return open_anchor(note, history)
        except FormatError as error:
            raise RestoreRefused(f"an archived anchor: {error}") from error

    def _root(self, row: Signed, history: LogKeyHistory) -> bytes:
        checkpoint = self._opened(row.note, history).checkpoint
        if checkpoint.size != row.size:
            raise RestoreRefused(f"the anchor of size {row.size} says size {checkpoint.size}")
        return checkpoint.root

    async def _attested(self, size: int) -> None:
        tokens = []
        async for token in self._reader.tokens():
            if token.size <= size:
                at = to_datetime(token.added_us)
                tokens.append((token.size, at, stated_time(token.token), token.token))
            if len(tokens) == ATTESTED_AT_ONCE:
                await self._transaction.anchors.add_tokens(tokens)
                tokens = []
        await self._transaction.anchors.add_tokens(tokens)
        lines = []
        async for one in self._reader.cosignatures():
            if one.size <= size:
                (signature,) = parse_signatures(one.line)
                witness = f"{signature.name}+{signature.key_id.hex()}"
                lines.append((one.size, witness, to_datetime(one.added_us), one.line))
            if len(lines) == ATTESTED_AT_ONCE:
                await self._transaction.anchors.add_cosignatures(lines)
                lines = []
        await self._transaction.anchors.add_cosignatures(lines)

    async def _claim(self, reader: ArchiveReader, org_id: int, tail: dict[int, StoredLeaf]) -> int:
        """Say which leaves are this org's: those that commit to its checkpoints.

        Returns the place in the log after the last of them.
        """
        batch: list[AnchoredAt] = []
        end = 0
        async for row in reader.nonces():
            end = row.idx + 1
            if row.idx < self.end[0]:
                batch.append(row)
            elif len(tail) < TAIL_MAX:
                note = await self._transaction.anchors.note_at(org_id, row.size)
                if note is None or len(row.nonce) != NONCE_BYTES:
                    raise _no_leaf(reader.org, row)
                leaf = blind(row.nonce, note)
                tail[row.idx] = StoredLeaf(row.idx, org_id, row.size, row.nonce, leaf)
            if len(batch) == PLACES_AT_ONCE:
                await self._claim_some(reader.org, org_id, batch)
                batch = []
        if batch:
            await self._claim_some(reader.org, org_id, batch)
        return end

    async def _claim_some(self, org: str, org_id: int, rows: Sequence[AnchoredAt]) -> None:
        found = await self._transaction.anchors.leaves_at(
            org_id, [(row.idx, row.size) for row in rows]
        )
        by_idx = {leaf.idx: (leaf, note) for leaf, note in found}
        for row in rows:
            leaf, note = by_idx.get(row.idx, (None, b""))
            if (
                leaf is None
                or len(row.nonce) != NONCE_BYTES
                or blind(row.nonce, note) != leaf.leaf
                or leaf.org_id not in (UNKNOWN_ORG, org_id)
            ):
                raise _no_leaf(org, row)
        await self._transaction.anchors.claim(
            org_id, [(row.idx, row.size, row.nonce) for row in rows]
        )

    async def _add_tail(self, tail: dict[int, StoredLeaf]) -> None:
        """Leaves that no archived anchor covers keep their places, as far as none is missing."""
        leaves: list[StoredLeaf] = []
        while not self._begun and (leaf := tail.pop(self.end[0] + len(leaves), None)) is not None:
            leaves.append(leaf)
        await self._transaction.anchors.add_leaves(leaves)
        self.unplaced = len(tail)
        # The newest checkpoints of these orgs go into the log once more.
        await self._transaction.anchors.anew(sorted({leaf.org_id for leaf in tail.values()}))


def _no_leaf(org: str, row: AnchoredAt) -> RestoreRefused:
    return RestoreRefused(
        f"leaf {row.idx} of the log of all checkpoints does not commit to the checkpoint of {org} "
        f"of size {row.size}"
    )
