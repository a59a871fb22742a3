"""The signing transaction: lock the tree rows, remember the new heads, sign and store them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ledger.checkpoint import TreeHead
from ledger.core.checkpointing.anchoring import AnchorSigner
from ledger.core.checkpointing.doubt import NOT_FROZEN, UNKNOWN_KEY, SigningDoubt
from ledger.core.checkpointing.following import FollowedRows
from ledger.core.checkpointing.memory import SignerMemory
from ledger.core.checkpointing.tips import Tip, Tips
from ledger.log_keys import LogKeys
from ledger.merkle import Edge
from ledger.note import sign_note
from ledger.storage.signing import PendingOrg, SignerConnection
from ledger.storage.signing_transaction import NewCheckpoint, SigningTransaction, parts_of


@dataclass(frozen=True)
class ExtendedTree:
    """A tree extended by new leaves, to be signed; ``new`` holds the new hashes by tile level."""

    org: PendingOrg
    edge: Edge
    link: str | None
    new: dict[int, list[bytes]]
    anchored_at: datetime

    @classmethod
    def of(cls, org: PendingOrg, tip: Tip, found: FollowedRows) -> ExtendedTree:
        """The tree at this tip, extended by the leaves that were read."""
        edge = tip.edge.copy()
        new = edge.extend(found.hashes)
        link = found.hashes[-1].hex() if found.hashes else tip.link
        return cls(org, edge, link, new, _time_of(found) or org.since)


class Signing:
    """Signs extended trees, many in one transaction."""

    def __init__(
        self,
        connection: SignerConnection,
        keys: LogKeys,
        memory: SignerMemory,
        tips: Tips,
        anchoring: AnchorSigner,
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._memory = memory
        self._tips = tips
        self._anchoring = anchoring

    async def sign(
        self, grown: Sequence[ExtendedTree]
    ) -> tuple[list[ExtendedTree], list[tuple[PendingOrg, SigningDoubt]]]:
        """Sign and store trees; returns the signed ones, and the refused orgs with their doubts.

        A tree that another signer extended, or whose org was frozen meanwhile, is left for the
        next round. Raises DatabaseUnavailable, SignerMemoryUnavailable, UnexpectedRows.
        """
        org_ids = [one.org.org_id for one in grown]
        try:
            async with self._connection.transaction() as transaction:
                ready, doubts = await self._ready(transaction, grown)
                # A crash here leaves nothing: PostgreSQL rolls back.
                self._memory.remember(
                    (one.org.org_id, one.edge.size, one.edge.root()) for one in ready
                )
                # A crash here leaves heads in signed.sqlite that the database does not have:
                # the next round finds them ahead of the tree rows (Checkpointer._plan) and signs
                # exactly these sizes again, to the same notes (Ed25519 does not vary).
                await self._store(transaction, ready)
                # The block's end sends COMMIT. A crash before it leaves the same as above; a
                # crash after it leaves tiles, checkpoints and anchor leaves stored together,
                # and a lost answer leaves one or the other: the next round reads the tree rows.
        except BaseException:
            self._tips.forget(org_ids)
            self._anchoring.forget()
            raise
        for one in ready:
            self._tips.keep(one.org.org_id, Tip(one.edge, one.link))
        return ready, doubts

    async def _ready(
        self, transaction: SigningTransaction, grown: Sequence[ExtendedTree]
    ) -> tuple[list[ExtendedTree], list[tuple[PendingOrg, SigningDoubt]]]:
        org_ids = [one.org.org_id for one in grown]
        locked = await transaction.lock_trees(org_ids)
        frozen = await transaction.frozen(org_ids)
        ready, doubts = [], []
        for one in grown:
            tree, remembered = locked[one.org.org_id], self._memory.get(one.org.org_id)
            if tree.size != one.org.size or one.org.org_id in frozen:
                continue
            if tree.root and tree.size == one.edge.size:
                continue  # an empty tree that another leader signed meanwhile
            if (
                remembered
                and remembered.size == one.edge.size
                and remembered.root != one.edge.root()
            ):
                doubts.append((one.org, _rewritten(one.edge.size)))
            else:
                ready.append(one)
        return ready, doubts

    async def _store(self, transaction: SigningTransaction, ready: Sequence[ExtendedTree]) -> None:
        if not ready:
            return
        signed = [self._checkpoint(one) for one in ready]
        await transaction.add_parts(
            part for one in ready for part in parts_of(one.org.org_id, one.org.size, one.new)
        )
        await transaction.add_checkpoints(signed)
        # All empty trees are the same tree: anchoring the checkpoint of one proves nothing.
        to_anchor = [(one.org_id, one.size, one.note) for one in signed if one.size]
        if to_anchor:
            await self._anchoring.add_leaves(transaction, to_anchor)
        await transaction.announce()

    def _checkpoint(self, one: ExtendedTree) -> NewCheckpoint:
        slug, root = one.org.slug, one.edge.root()
        text = TreeHead(self._keys.public().org_origin(slug), one.edge.size, root).text()
        note = sign_note(text, self._keys.org_signers(slug))
        return NewCheckpoint(one.org.org_id, one.edge.size, root, note, one.anchored_at)

    async def stop(self, org_id: int, doubt: SigningDoubt) -> None:
        """Stop signing an org: store the doubt and freeze the org.

        A thawed org is not frozen again for the same kind of doubt. A key missing from this
        machine's keyring is no fault of the trail: the org is not frozen, and signing resumes
        once the keyring has the key. An org whose head is locked is frozen later.
        """
        # A crash in the block leaves the org as it was: the next round finds the same doubt.
        async with self._connection.transaction() as transaction:
            tree = (await transaction.lock_trees([org_id]))[org_id]
            known = (tree.stopped or "").partition(":")[0]
            if known != doubt.kind and doubt.kind == UNKNOWN_KEY:
                await transaction.add_event(org_id, "checkpoints_stopped", str(doubt))
            elif known != doubt.kind and not await transaction.freeze(
                org_id, f"checkpoints stopped: {doubt}"
            ):
                # Another session holds the org's head. That must not hold up the other orgs: the
                # kind, stored with this mark, differs, so the next check freezes the org.
                if known != doubt.kind + NOT_FROZEN:
                    await transaction.add_event(org_id, "checkpoints_stopped", str(doubt))
                doubt = doubt._replace(kind=doubt.kind + NOT_FROZEN)
            await transaction.stop(org_id, str(doubt))


def _rewritten(size: int) -> SigningDoubt:
    return SigningDoubt(
        "history_rewritten",
        f"the tree of size {size} differs from the one this signer signed at that size",
    )


def _time_of(found: FollowedRows) -> datetime | None:
    if found.anchored_at is None:
        return None
    try:
        return datetime.fromisoformat(found.anchored_at)
    except ValueError:
        return None
