"""The anchor log: one tree over the checkpoints of all orgs, signed with both kinds of keys.

Leaves are added in the transactions that sign checkpoints; the log is signed now and then
in its own transaction. Before that each leaf is computed again from the note it commits to,
and a note that this process did not sign must have this log's signature.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from ledger.anchor import NONCE_BYTES, blind
from ledger.checkpoint import TreeHead, parse_checkpoint
from ledger.core.checkpointing.doubt import SigningDoubt
from ledger.core.checkpointing.memory import SignerMemory
from ledger.core.checkpointing.tips import SignedTip, Tip, Tips
from ledger.errors import FormatError, QuireError, StorageError
from ledger.log_keys import LogKeys, open_anchor, open_org_checkpoint
from ledger.merkle import Edge, leaf_hash
from ledger.note import parse_note, sign_note
from ledger.storage.signing import AnchorRow, IdleTree, SignerConnection
from ledger.storage.signing_transaction import (
    LockedTree,
    NewCheckpoint,
    SigningTransaction,
    UnexpectedRows,
    parts_of,
)
from ledger.storage.trees import ANCHOR_LOG

LEAVES_AT_ONCE: Final = 50_000
MAX_LEAVES: Final = 500_000
"""Leaves that one anchor adds at most; a size that is signed again as remembered has no bound."""
IDLE_AT_ONCE: Final = 1_000
MAX_OWN: Final = 1_000_000
"""Leaves of this process that are kept in memory until they are anchored: 100 bytes each."""


class AnchoringStopped(QuireError):
    """The anchor log is in doubt: no anchor is signed until it is repaired."""

    def __init__(self, doubt: SigningDoubt) -> None:
        super().__init__(
            f"the anchor log is no longer signed: {doubt}. Verify the database against your "
            "backups; docs/operations.md says how to go on"
        )
        self.doubt = doubt


class AnchorSigner:
    """Adds leaves to the anchor log and signs it."""

    def __init__(
        self,
        connection: SignerConnection,
        keys: LogKeys,
        memory: SignerMemory,
        tips: Tips,
        clock: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._history = keys.public()
        self._memory = memory
        self._tips = tips
        self._clock = clock
        self._own_leaves: set[bytes] = set()
        self._next_free: int | None = None
        self._newest_time_s = 0

    def forget(self) -> None:
        """Read the log's end again: a transaction that added leaves may not have committed."""
        self._next_free = None

    async def add_leaves(
        self, transaction: SigningTransaction, checkpoints: Sequence[tuple[int, int, bytes]]
    ) -> None:
        """Add a blinded leaf for each checkpoint (org_id, size, note), in the same transaction.

        All notes are ones that this process signed or verified. If the transaction fails, call
        :meth:`forget`.
        """
        remembered = self._memory.get(ANCHOR_LOG)
        first = remembered.size if self._next_free is None and remembered else self._next_free
        places = await transaction.free_anchor_leaves(first, len(checkpoints))
        if len(places) < len(checkpoints):
            raise StorageError(
                "the table anchor_leaves has no free place: it is full of rows that no signer "
                "wrote. Verify the database against your backups"
            )
        leaves = []
        for place, (org_id, size, note) in zip(places, checkpoints, strict=True):
            nonce = secrets.token_bytes(NONCE_BYTES)
            leaves.append((place, org_id, size, nonce, blind(nonce, note)))
        await transaction.add_anchor_leaves(leaves)
        self._next_free = places[-1] + 1
        if len(self._own_leaves) < MAX_OWN:
            self._own_leaves.update(leaf for *_, leaf in leaves)

    async def refresh(self, idle_s: float) -> list[tuple[IdleTree, SigningDoubt]]:
        """Add the newest checkpoints of idle trees to the log again, which gives them a newer date.

        Returns the trees whose checkpoint is missing or altered, with the doubt.
        """
        idle = await self._connection.idle(idle_s, IDLE_AT_ONCE)
        doubts = [(tree, doubt) for tree in idle if (doubt := self._altered(tree)) is not None]
        refused = {tree.org_id for tree, _ in doubts}
        sound = [
            (tree.org_id, tree.size, tree.note)
            for tree in idle
            if tree.org_id not in refused and tree.note is not None
        ]
        if not sound:
            return doubts
        org_ids = [org_id for org_id, _, _ in sound]
        try:
            async with self._connection.transaction() as transaction:
                await transaction.lock_trees(org_ids)
                await self.add_leaves(transaction, sound)
                await transaction.touch(org_ids)
                # The block's end sends COMMIT. A crash before it leaves nothing, and the next
                # sweep adds the leaves; a crash after it leaves the leaves and the trees' new times.
        except BaseException:
            self.forget()
            raise
        return doubts

    def _altered(self, tree: IdleTree) -> SigningDoubt | None:
        if tree.note is None:
            return SigningDoubt(
                "checkpoint_missing", f"the checkpoint of size {tree.size} is missing"
            )
        try:
            opened = open_org_checkpoint(tree.note, tree.slug, self._history).checkpoint
        except FormatError as error:
            return SigningDoubt(
                "checkpoint_invalid", f"the checkpoint of size {tree.size}: {error}"
            )
        if (opened.size, opened.root) != (tree.size, tree.root):
            return SigningDoubt(
                "checkpoint_invalid",
                f"the checkpoint of size {tree.size} names another size or root than the tree",
            )
        return None

    async def anchor(self) -> int | None:
        """Sign the anchor log with all its leaves; returns its size, or None if it has not grown.

        Raises AnchoringStopped, DatabaseUnavailable, SignerMemoryUnavailable, StorageError if
        another signer signed it meanwhile.
        """
        tree = await self._connection.tree(ANCHOR_LOG)
        tip = await self._tip(tree)
        edge, new = await self._extend(tip.edge, self._remembered_beyond(tree))
        if edge.size == tree.size:
            return None
        try:
            await self._sign(tree, edge, new)
        except UnexpectedRows as error:
            raise await self._stop(SigningDoubt("rows_planted", str(error))) from error
        self._own_leaves.clear()  # leaves beyond MAX_LEAVES are verified when they are anchored
        return edge.size

    async def _tip(self, tree: LockedTree) -> Tip:
        signed = SignedTip(ANCHOR_LOG, tree.size, tree.root, self._opened)
        tip = (await self._tips.of([signed]))[ANCHOR_LOG]
        if isinstance(tip, SigningDoubt):
            raise await self._stop(tip)
        return tip

    def _opened(self, note: bytes) -> TreeHead:
        opened = open_anchor(note, self._history)
        self._newest_time_s = max(self._newest_time_s, opened.time_s)
        return opened.checkpoint

    def _remembered_beyond(self, tree: LockedTree) -> int | None:
        """The remembered size, if the database lacks it: exactly that size is signed again."""
        remembered = self._memory.get(ANCHOR_LOG)
        return remembered.size if remembered and remembered.size > tree.size else None

    async def _extend(self, start: Edge, until: int | None) -> tuple[Edge, dict[int, list[bytes]]]:
        edge, new = start.copy(), dict[int, list[bytes]]()
        upper = start.size + MAX_LEAVES if until is None else until
        while edge.size < upper:
            limit = min(LEAVES_AT_ONCE, upper - edge.size)
            rows = self._without_planted(
                await self._connection.anchor_rows(edge.size, limit), edge.size
            )
            for row, expected in zip(rows, range(edge.size, edge.size + limit), strict=False):
                if (doubt := self._leaf_doubt(row, expected)) is not None:
                    raise await self._stop(doubt)
            for level, hashes in edge.extend([leaf_hash(row.leaf) for row in rows]).items():
                new.setdefault(level, []).extend(hashes)
            if len(rows) < limit:
                break
        if until is not None and edge.size < until:
            reason = (
                f"it has {edge.size} leaves, but {until} are signed: the database is an older copy"
            )
            raise await self._stop(SigningDoubt("anchor_log_shortened", reason))
        return edge, new

    def _without_planted(self, rows: list[AnchorRow], first: int) -> list[AnchorRow]:
        """These rows, cut at the first gap beyond the leaves that this process added.

        Rows after such a gap were planted; they are examined once the log has grown up to them.
        """
        for place, row in enumerate(rows):
            expected = first + place
            beyond = self._next_free is not None and expected >= self._next_free
            if row.idx != expected and beyond:
                return rows[:place]
        return rows

    def _leaf_doubt(self, row: AnchorRow, expected: int) -> SigningDoubt | None:
        """The doubt about a leaf of the anchor log, or None if it is right."""
        if row.idx != expected:
            return SigningDoubt("anchor_leaf_missing", f"leaf {expected} is missing")
        nonce = row.nonce.ljust(NONCE_BYTES, b"\x00")[:NONCE_BYTES]
        if row.note is None or nonce != row.nonce or blind(nonce, row.note) != row.leaf:
            return SigningDoubt(
                "anchor_leaf_changed", f"leaf {expected} does not commit to its checkpoint"
            )
        if row.leaf in self._own_leaves:
            return None
        try:
            origin = parse_checkpoint(parse_note(row.note).text).origin
            slug = origin.removeprefix(f"{self._keys.origin}/orgs/")
            open_org_checkpoint(row.note, slug, self._history)
        except FormatError as error:
            return SigningDoubt(
                "anchor_leaf_foreign",
                f"leaf {expected} commits to a checkpoint that this log did not sign: {error}",
            )
        return None

    async def _sign(self, tree: LockedTree, edge: Edge, new: dict[int, list[bytes]]) -> None:
        remembered, root = self._memory.get(ANCHOR_LOG), edge.root()
        if remembered and remembered.size == edge.size and remembered.root != root:
            reason = f"its tree of size {edge.size} differs from the one that this signer signed"
            raise await self._stop(SigningDoubt("anchor_log_forked", reason))
        # With a clock that was set back, an anchor is never dated before the one it follows.
        now = max(int(self._clock()), self._newest_time_s)
        try:
            async with self._connection.transaction() as transaction:
                locked = (await transaction.lock_trees([ANCHOR_LOG]))[ANCHOR_LOG]
                if locked.size != tree.size:
                    raise StorageError("another signer signed the anchor log meanwhile")
                # A crash here leaves nothing: PostgreSQL rolls back.
                self._memory.remember([(ANCHOR_LOG, edge.size, root)])
                # A crash here leaves a size in signed.sqlite that the database does not have:
                # the next anchor signs exactly this tree again (see _remembered_beyond), with a
                # new time. The note of this run was never stored, so it never became public.
                text = TreeHead(self._history.anchor_origin, edge.size, root).text()
                note = sign_note(text, self._keys.anchor_signers(), now)
                await transaction.add_parts(parts_of(ANCHOR_LOG, tree.size, new))
                at = datetime.fromtimestamp(now, UTC)
                await transaction.add_checkpoints(
                    [NewCheckpoint(ANCHOR_LOG, edge.size, root, note, at)]
                )
                await transaction.announce()
                # The block's end sends COMMIT. A crash before it leaves the same as above; a
                # crash after it leaves tiles, checkpoint and tree row stored together, and a
                # lost answer leaves one or the other: the next anchor reads the tree row.
        except BaseException:
            self._tips.forget([ANCHOR_LOG])
            raise
        self._newest_time_s = now
        self._tips.keep(ANCHOR_LOG, Tip(edge, None))

    async def _stop(self, doubt: SigningDoubt) -> AnchoringStopped:
        """Store the doubt, with a security event the first time; returns the error to raise."""
        self._tips.forget([ANCHOR_LOG])
        async with self._connection.transaction() as transaction:
            tree = (await transaction.lock_trees([ANCHOR_LOG]))[ANCHOR_LOG]
            if (tree.stopped or "").partition(":")[0] != doubt.kind:
                await transaction.add_event(None, "anchoring_stopped", str(doubt))
            await transaction.stop(ANCHOR_LOG, str(doubt))
        return AnchoringStopped(doubt)
