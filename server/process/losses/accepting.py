"""Lets a trail go on after a real loss of acknowledged entries, and says so in the trail.

The steps, each of which may be repeated after a crash:
1. an entry ``quire.loss_accepted`` names what was acknowledged and signed, and what was found;
2. the file of acknowledged heads takes that entry as the org's head;
3. the signer's memory forgets the larger tree that it signed, if the tree itself is lost too;
4. the org is thawed, if an append froze it between 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from ledger.blocks.block import SYSTEM_ORG
from ledger.chain import ChainHead
from ledger.checkpoint import SignedTreeHead, TreeHead
from ledger.core.checkpointing import SignerMemory
from ledger.core.checkpointing.doubt import SigningDoubt
from ledger.core.checkpointing.tips import SignedTip, Tips
from ledger.core.org import OrgFacts
from ledger.core.register import Change, ChangeKind
from ledger.core.sealing.opener import opener
from ledger.core.sealing.sealer import Drafted, Sealer
from ledger.core.sequencer import (
    AcceptedLoss,
    AcknowledgedHeads,
    Appended,
    AppendRequest,
    Sequencer,
)
from ledger.core.sequencer.heads.ending import intact_entry, trail_end
from ledger.entry import decode_leaf, from_datetime
from ledger.errors import AppendRefused, QuireError
from ledger.event import LOSS_ACCEPTED, Event, EventFields
from ledger.keys import SigningKeyring
from ledger.log_keys import LogKeyHistory, open_org_checkpoint
from ledger.storage import accepted_doubts, orgs, sealed_events
from ledger.storage.database import Database
from ledger.storage.signing import SignerConnection
from ledger.storage.signing_transaction import LockedTree
from ledger.storage.trail import AppendTransaction
from ledger.storage.trees import ANCHOR_LOG
from server.access.administration import Administration
from server.trails.appending import append_sealed
from server.trails.guarding import TrailGuard


class NoLoss(QuireError):
    """The trail has all that was acknowledged and signed."""


class LossRefused(QuireError):
    """The loss can't be accepted as the trail is now."""


class Loss(NamedTuple):
    """The lost end of a trail: compared are this machine's memories and the database.

    ``found`` is the end of the trail; it goes on after ``after``, which the signed tree of the
    database may name beyond ``found``. ``signed`` is set if the signer remembers a larger tree than
    the database has; ``anchors`` likewise for the log of all checkpoints.
    """

    acknowledged: ChainHead | None
    found: ChainHead
    after: ChainHead
    lost: tuple[int, int]
    signed: SignedTreeHead | None
    anchors: SignedTreeHead | None

    def document(self) -> dict[str, Any]:
        """Return the content of the entry about the loss."""
        first, last = self.lost
        said: dict[str, Any] = {
            "lost": {"first_seq": first, "last_seq": last},
            "found": _place(self.found),
            "acknowledged": None if self.acknowledged is None else _place(self.acknowledged),
            "signed": _size(self.signed),
        }
        return said if self.anchors is None else {**said, "anchor_log": _size(self.anchors)}


class SignedSide(NamedTuple):
    """The known signed trees: by the database, by the log's keys, by the signer's memory."""

    signer: SignerConnection
    history: LogKeyHistory
    memory: SignerMemory


class Losses:
    """Finds and accepts losses, on the server's machine."""

    def __init__(
        self,
        database: Database,
        sequencer: Sequencer,
        sealer: Sealer,
        administration: Administration,
        keyring: SigningKeyring,
        heads: AcknowledgedHeads,
        signed: SignedSide,
    ) -> None:
        self._database = database
        self._sequencer = sequencer
        self._sealer = sealer
        self._administration = administration
        self._keyring = keyring
        self._heads = heads
        self._signer, self._history, self._memory = signed

    async def accept(self, org: OrgFacts, reason: str) -> Loss:
        """Accept the loss of an org's entries. Raises NoLoss, LossRefused, AppendRefused."""
        loss = await self.find(org)
        if loss is None:
            raise NoLoss(
                f"{org.slug} has lost nothing: its trail has all entries that this machine "
                "acknowledged and signed. A frozen org is thawed with: quire orgs thaw"
            )
        if await self._said(org, loss):  # a crash after step 1 or 2
            self._heads.reset(org.id, loss.found)
        else:
            await self._append(org, loss, reason)
        # A crash here leaves the signer's memory: the next run finds the signed loss.
        for log_id, forgotten in ((org.id, loss.signed), (ANCHOR_LOG, loss.anchors)):
            if forgotten is not None:
                self._memory.forget(log_id)
        record = await orgs.org_by_id(self._database, org.id)
        if record is not None and record.frozen_reason is not None:
            guard = TrailGuard(self._database, self._sequencer, self._sealer, self._administration)
            await guard.thaw(org, f"the loss was accepted: {reason}", "operator")
        return loss

    async def find(self, org: OrgFacts) -> Loss | None:
        """Compare an org's trail and tree with this machine's memories; None without a loss."""
        acknowledged = self._heads.get(org.id)
        found, behind = await trail_end(self._database, org, acknowledged)
        tree, signed = await self._signer.tree(org.id), self._memory.get(org.id)
        if signed is not None and signed.size <= tree.size:
            signed = None
        length = found.seq + 1
        cut = max(tree.size, 0 if signed is None else signed.size) > length
        if not (behind or cut or (signed is not None and _is_doubted(tree))):
            return None
        after = found if tree.size <= length else await self._signed_end(org, tree)
        ends = [found.seq + 1, *([acknowledged.seq] if acknowledged and behind else [])]
        ends += [size - 1 for size in (tree.size, signed.size if signed else 0) if size > length]
        first = min(found.seq + 1, acknowledged.seq if acknowledged and behind else found.seq + 1)
        anchors = await self._lost_anchors()
        return Loss(
            acknowledged, found, after, (first, max(ends[1:], default=first)), signed, anchors
        )

    async def _signed_end(self, org: OrgFacts, tree: LockedTree) -> ChainHead:
        """Return the last leaf of the signed tree, proven by its tiles: the trail was cut before it.

        So the tree is never signed twice at one size: the lost entries keep their leaves in it.
        """

        def opened(note: bytes) -> TreeHead:
            return open_org_checkpoint(note, org.slug, self._history).checkpoint

        tips = Tips(self._signer, self._memory)
        tip = (await tips.of([SignedTip(org.id, tree.size, tree.root, opened)]))[org.id]
        if isinstance(tip, SigningDoubt) or tip.link is None:
            raise LossRefused(
                f"entries of {org.slug} that were signed are lost, and its signed tree can't be "
                f"extended: {tip}. Restore the database from a backup, or the org from its archive "
                "into another database"
            )
        return ChainHead(tree.size - 1, bytes.fromhex(tip.link), from_datetime(tree.anchored_at))

    async def _lost_anchors(self) -> SignedTreeHead | None:
        tree, known = await self._signer.tree(ANCHOR_LOG), self._memory.get(ANCHOR_LOG)
        return known if known is not None and known.size > tree.size else None

    async def _said(self, org: OrgFacts, loss: Loss) -> bool:
        """Return whether the newest entry accepts this loss already: a crash followed it.

        It is the acknowledged head if the crash came after step 2.
        """
        entry = await intact_entry(self._database, org, loss.found, self._keyring)
        if entry is None or loss.acknowledged is None:
            return False
        leaf = decode_leaf(entry.leaf)
        if leaf.event_type != LOSS_ACCEPTED:
            return False
        payload: bytes | None = entry.payload
        if leaf.payload.seal is not None:
            opening = await opener(self._sealer, org, ())
            payload = opening.payload(leaf.payload.seal, entry.payload, entry.seq)
        said = msgspec.json.decode(payload or b"{}")
        is_head = loss.acknowledged[:2] == loss.found[:2]
        names_head = is_head or said.get("acknowledged") == _place(loss.acknowledged)
        return bool(names_head and said.get("signed") == _size(loss.signed))

    async def _append(self, org: OrgFacts, loss: Loss, reason: str) -> None:
        """Write the entry; it thaws the org, which is recorded in the trail `system` too."""
        change = Change(org_id=org.id, reason=reason)
        act = {"event_type": LOSS_ACCEPTED, "actor": "operator", "action": "accept_loss"}
        body = msgspec.json.encode({**act, "reason": reason, **loss.document()})
        event = Event(msgspec.json.decode(body, type=EventFields), body)
        accepted = AcceptedLoss(loss.found, loss.after)
        rows = self._administration.register.row_key

        async def accept_doubt(transaction: AppendTransaction) -> AppendRefused | None:
            # Until the signer signs again, nothing else says that its doubt froze for this loss.
            await accepted_doubts.accept(transaction, org.id, "operator", rows)
            # Entries that sealed security events may be among the lost ones.
            await sealed_events.forget(transaction, org.id)
            return None

        def request(sealed: Drafted) -> AppendRequest:
            return AppendRequest(
                org.id,
                org.slug,
                sealed.drafts,
                erasures=sealed.erasures,
                effect=accept_doubt,
                thaw=accepted,
            )

        async def append(request: AppendRequest) -> Appended:
            if org.slug == SYSTEM_ORG:  # its freeze stands in its head row alone
                return await self._sequencer.append(request)
            details = {"org": org.slug, "reason": f"the loss was accepted: {reason}"}
            appended = await self._administration.append_with(
                [request], ChangeKind.THAWED, change, details, actor="operator"
            )
            return appended[0]

        # A crash after its commit leaves the entry, and the file of acknowledged heads as it was:
        # appends are refused, and the next run finds the entry (`_said`).
        await append_sealed(append, self._sealer, org, [event], request)


def _is_doubted(tree: LockedTree) -> bool:
    """Return whether the signer stopped, as the trail is not the one that it signed."""
    kind = (tree.stopped or "").partition(":")[0]
    return kind in {"trail_shortened", "checkpoints_lost", "history_rewritten"}


def _place(head: ChainHead) -> dict[str, Any]:
    return {"seq": head.seq, "entry_hash": head.entry_hash.hex()}


def _size(head: SignedTreeHead | None) -> Mapping[str, Any] | None:
    return None if head is None else {"size": head.size, "root": head.root.hex()}
