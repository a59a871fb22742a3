"""Rebuilds a log's tree from its leaf hashes, with the archived checkpoints and tile parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Final

from ledger.archive.format.records import ArchivedCheckpoint
from ledger.entry import to_datetime
from ledger.errors import RestoreRefused
from ledger.merkle import Edge
from ledger.storage.restoring import RestoredCheckpoint, RestoreTransaction
from ledger.storage.signing_transaction import TilePart, parts_of

ROWS_AT_ONCE: Final = 1_000
LEAVES_AT_ONCE: Final = 1 << 20
"""The most leaves between two checkpoints: more than a signer takes at once."""


class TreeRestore:
    """Takes leaf hashes in order and compares the tree's root with each checkpoint on the way.

    ``opened`` verifies a checkpoint's signature and returns its root. Methods raise
    RestoreRefused.
    """

    def __init__(
        self,
        transaction: RestoreTransaction,
        org_id: int,
        signed: AsyncIterator[ArchivedCheckpoint],
        opened: Callable[[ArchivedCheckpoint], bytes],
    ) -> None:
        self.checkpoints = 0
        self.signed_at = to_datetime(0)
        self._transaction = transaction
        self._org_id = org_id
        self._signed = signed
        self._opened = opened
        self._edge = Edge()
        self._hashes: list[bytes] = []
        self._next: ArchivedCheckpoint | None = None
        self._parts: list[TilePart] = []
        self._rows: list[RestoredCheckpoint] = []

    async def add(self, leaf_hash: bytes) -> None:
        """Add the next leaf's hash."""
        if not self._edge.size and not self._hashes:
            self._next = await anext(self._signed, None)
            if self._next is not None and self._next.size == 0:
                await self._grow(self._next)
                self._next = await anext(self._signed, None)
        self._hashes.append(leaf_hash)
        size = self._edge.size + len(self._hashes)
        if len(self._hashes) > LEAVES_AT_ONCE or (self._next and self._next.size < size):
            raise RestoreRefused(f"an archived checkpoint is missing before size {size}")
        if self._next is not None and self._next.size == size:
            await self._grow(self._next)
            self._next = await anext(self._signed, None)

    async def _grow(self, row: ArchivedCheckpoint) -> None:
        size = self._edge.size
        new = self._edge.extend(self._hashes)
        self._hashes = []
        root = self._opened(row)
        if self._edge.root() != root:
            raise RestoreRefused(
                f"the archived entries do not lead to the root that was signed at size {row.size}"
            )
        self.signed_at = to_datetime(row.signed_us)
        self.checkpoints += 1
        self._parts += parts_of(self._org_id, size, new)
        self._rows.append(
            RestoredCheckpoint(self._org_id, row.size, root, row.note, self.signed_at)
        )
        if len(self._rows) >= ROWS_AT_ONCE or len(self._parts) >= ROWS_AT_ONCE:
            await self._write()

    async def end(self, size: int, root: bytes, anchored_at: datetime) -> None:
        """Finish after the last leaf; the tree must end in the archive's newest checkpoint."""
        await self._write()
        if (self._edge.size, self._edge.root()) != (size, root) or self._hashes:
            raise RestoreRefused(
                f"the archived checkpoints end at size {self._edge.size}, not at {size}"
            )
        await self._transaction.set_tree(self._org_id, size, root, anchored_at, self.signed_at)

    async def _write(self) -> None:
        await self._transaction.add_tree(self._parts, self._rows)
        self._parts, self._rows = [], []
