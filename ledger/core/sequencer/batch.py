"""One append transaction for the waiting requests of many orgs.

A :class:`Batch` is built once and may run again when it is certain that the
previous run wrote nothing: recovery runs the same code as the live path.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain

from ledger.chain import ChainHead, next_time_us
from ledger.core.lasting import SILENT_S, LastingByKey, plain
from ledger.core.sequencer.committing.one_statement import OneStatement
from ledger.core.sequencer.extension import LaneExtension
from ledger.core.sequencer.heads.check import (
    HeadClaim,
    beyond_acknowledged,
    head_fault,
    head_for_thaw,
)
from ledger.core.sequencer.lane import NOTHING, Lane, SeenHead
from ledger.core.sequencer.outcome import BatchOutcome, BatchTools, FoundFault, LaneBatch
from ledger.core.sequencer.placing import placeable
from ledger.core.sequencer.replay import KeyUses, assemble, earlier_uses
from ledger.core.sequencer.request import (
    KeyDigest,
    TrailMoved,
)
from ledger.entry import to_datetime
from ledger.errors import OrgFrozen, SigningKeyMissing
from ledger.storage import idempotency
from ledger.storage.idempotency import KeyUse
from ledger.storage.security_events import storable
from ledger.storage.trail import AppendTransaction, HeadMove

_log = logging.getLogger(__name__)
_lacking = LastingByKey(
    "appends are refused: the keyring lacks a key that signed entries",
    "appends are no longer refused for a key that the keyring lacked",
    silent_s=SILENT_S,
)


class Batch:
    """The turns of some lanes, and the transaction that carries them out."""

    _undoes_effects = True
    """Whether a refused effect is undone alone, and the other requests are written."""

    def __init__(self, turns: Sequence[LaneBatch], tools: BatchTools) -> None:
        self.turns = turns
        self._tools = tools
        self._heads, self._keyring, self._clock, self._row_key, self._freezes = tools
        self.now_us = 0
        self._moments_us: set[int] = set()

    def in_one_statement(self) -> OneStatement | None:
        """Return the batch as one statement; None if it needs a transaction of several.

        Raises ClockUnsteady, HeadMemoryUnavailable.
        """
        return OneStatement.of(self.turns, self._tools)

    def moments(self) -> list[datetime]:
        """The times whose partitions the previous run needed."""
        return [to_datetime(moment_us) for moment_us in sorted(self._moments_us)]

    async def run(self, transaction: AppendTransaction) -> BatchOutcome:
        """Run the transaction up to COMMIT. Raises NotWritten; the caller commits or rolls back."""
        self.now_us = self._clock()
        self._moments_us = {self.now_us}
        outcome = BatchOutcome()
        # Before anything is written: a full disk must not leave a head that can't be remembered.
        self._heads.reserve(turn.lane.org_id for turn in self.turns)
        await transaction.begin()
        locked = await transaction.lock_heads(self._locked_orgs(), self._heads.knows)
        # Read under the locks of the head rows: no head is acknowledged behind this check's back.
        known = {org_id: self._heads.get(org_id, row.thawed_us) for org_id, row in locked.items()}
        beyond = await transaction.orgs_beyond(
            [
                (org_id, row.head.seq)
                for org_id, row in locked.items()
                if row.head != known[org_id].checked
            ]
        )
        uses = await earlier_uses(transaction, self._digests(), self._row_key)
        extensions = []
        for turn in self.turns:
            row = locked.get(turn.lane.org_id)
            claim = HeadClaim(row, known.get(turn.lane.org_id, NOTHING), turn.lane.org_id in beyond)
            head = await self._head_to_extend(transaction, turn, claim, outcome)
            if head is None:
                continue
            ready = await placeable(transaction, turn, row, outcome, self._undoes_effects)
            thawed_us = 0 if row is None else row.thawed_us
            if ready and ready[0].thaw:
                thawed_us = await transaction.thaw(turn.lane.org_id, head)
            at = to_datetime(next_time_us(self.now_us, head))
            # While another process extends the trail too, its end is not foreseen: see OneStatement.
            counts = row.counts if row is not None and head == claim.known.checked else None
            placed = assemble(ready, head.seq, at, uses, outcome.refusals)
            extensions.append(LaneExtension(turn.lane, head, thawed_us, counts, placed))
        await self._write(transaction, extensions, uses, outcome)
        if uses.new:
            made = {extension.lane.org_id: extension for extension in extensions}
            new = [use._replace(first_hash=_first_hash(use, made, uses)) for use in uses.new]
            day = to_datetime(self.now_us).date()
            await idempotency.record(transaction, day, new, self._row_key)
        return outcome

    def _locked_orgs(self) -> list[int]:
        """The orgs whose head rows the transaction locks."""
        return [turn.lane.org_id for turn in self.turns]

    def _digests(self) -> set[tuple[int, KeyDigest]]:
        """The digests of all keys of the requests, each with its org."""
        digests = set()
        for turn in self.turns:
            for request in turn.requests:
                if request.idempotency is not None:
                    digests.add((request.org_id, request.idempotency))
                digests.update((request.org_id, digest) for digest in request.unique.values())
        return digests

    async def _head_to_extend(
        self,
        transaction: AppendTransaction,
        turn: LaneBatch,
        claim: HeadClaim,
        outcome: BatchOutcome,
    ) -> ChainHead | None:
        """The head to extend, or None when the org is frozen (now or before): its turn is refused."""
        lane = turn.lane
        if turn.requests[0].thaw:
            return await self._head_to_thaw(transaction, turn, claim, outcome)
        if (lacking := self._freezes.lacking(lane.org_id)) is not None:
            _refuse(turn, lacking, outcome)
            return None
        row = claim.row
        reason = None if row is None else row.frozen_reason
        if reason is None and self._freezes.reason(lane.org_id) is not None:
            # Thawed by another process, or its row was changed behind the server's back.
            reason = await self._freezes.confirmed(lane.org_id, lane.org)
        if reason is None:
            if row is not None:
                row = await transaction.with_payload(row)
            fault = await self._head_fault(transaction, lane, claim._replace(row=row))
            if fault is None:
                assert row is not None
                outcome.seen.append(SeenHead(lane.org_id, row.head, row.thawed_us, row.mark))
                return row.head
            if isinstance(fault, SigningKeyMissing):
                _lacking.failed(fault.key_id, plain(_log.error), str(fault))
                _refuse(turn, fault, outcome)
                return None
            reason = _add_fault(lane, fault, outcome)
        _refuse(turn, OrgFrozen(lane.org, reason), outcome)
        return None

    async def _head_to_thaw(
        self,
        transaction: AppendTransaction,
        turn: LaneBatch,
        claim: HeadClaim,
        outcome: BatchOutcome,
    ) -> ChainHead | None:
        """The head after which an operator lets the trail go on, or None: the turn is refused.

        No thaw goes on before an acknowledged entry, unless its operator accepted the loss.
        """
        lane = turn.lane
        row = claim.row
        found = await head_for_thaw(transaction, lane.org_id, row)
        loss = turn.requests[0].loss
        if loss is not None:
            if loss.found[:2] == found[:2]:
                return loss.after
            _refuse(turn, TrailMoved(lane.org), outcome)
            return None
        acknowledged = claim.known.acknowledged
        head, reason = await beyond_acknowledged(transaction, lane.org_id, found, acknowledged)
        if reason is None:
            return head
        if row is None or row.frozen_reason is None:
            reason = _add_fault(lane, reason, outcome)
        _refuse(turn, OrgFrozen(lane.org, f"it can't be thawed: {reason}"), outcome)
        return None

    async def _head_fault(
        self, transaction: AppendTransaction, lane: Lane, claim: HeadClaim
    ) -> str | SigningKeyMissing | None:
        fault = await head_fault(transaction, lane.org_id, lane.org, claim, self._keyring(False))
        if fault is None:
            return None
        # Another server may sign with a key that was rotated in after this one read its
        # keyring: the org is frozen only if the newest keyring finds the fault too.
        return await head_fault(transaction, lane.org_id, lane.org, claim, self._keyring(True))

    async def _write(
        self,
        transaction: AppendTransaction,
        extensions: list[LaneExtension],
        uses: KeyUses,
        outcome: BatchOutcome,
    ) -> None:
        key = self._keyring(False).active
        self._moments_us.update(extension.anchored_us(self.now_us) for extension in extensions)
        marks: dict[int, bytes | None] = {}
        if any(extension.adds for extension in extensions):
            marks = await transaction.copy_entries(
                chain.from_iterable(extension.produce(self.now_us, key) for extension in extensions)
            )
        for extension in extensions:
            org_id = extension.lane.org_id
            if extension.entries:
                outcome.moves.append(HeadMove(org_id, extension.head, extension.new_head))
                outcome.seen.append(extension.seen(marks.get(org_id)))
                outcome.entries += len(extension.entries)
            written = uses.written.get(org_id)
            ready, late = extension.answers({} if written is None else written.entries)
            outcome.answers += ready
            outcome.late += late
        if outcome.moves:
            await transaction.move_heads(outcome.moves)


def _first_hash(use: KeyUse, made: Mapping[int, LaneExtension], uses: KeyUses) -> bytes:
    """The hash of the first entry of an answer; b"" if it was written earlier and is not read."""
    extension = made[use.org_id]
    number = use.first_seq - extension.head.seq - 1
    if number >= 0:
        return extension.entries[number].entry_hash
    written = uses.written.get(use.org_id)
    entry = None if written is None else written.entries.get(use.first_seq)
    return b"" if entry is None else entry.entry_hash


def _add_fault(lane: Lane, reason: str, outcome: BatchOutcome) -> str:
    """Let the org be frozen after the batch; return the reason as it is stored."""
    reason = storable(reason)
    outcome.faults.append(FoundFault(lane.org_id, lane.org, reason))
    return reason


def _refuse(turn: LaneBatch, error: Exception, outcome: BatchOutcome) -> None:
    outcome.refusals += [(request, error) for request in turn.requests]
