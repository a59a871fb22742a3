"""One append transaction for the waiting batches of many orgs.

:class:`Batch` is built once and may be run again when it is certain that the
run before wrote nothing; recovery is the live path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from ledger.chain import Draft, Entry, Head, extend
from ledger.core.sequencer.head_check import head_for_thaw, why_not
from ledger.core.sequencer.lane import Lane, SeenHeads
from ledger.core.sequencer.replay import Uses, assemble
from ledger.core.sequencer.request import Appended, AppendRequest, StaleSeal
from ledger.entry import to_datetime
from ledger.errors import OrgFrozen
from ledger.keys import SigningKeyring
from ledger.storage import idempotency
from ledger.storage.idempotency import KeyUse
from ledger.storage.trail import AppendTransaction, LockedHead, Move

Refusal = tuple[AppendRequest, Exception]
Answer = tuple[AppendRequest, Appended]


class Turn(NamedTuple):
    """What one lane contributes to a batch."""

    lane: Lane
    requests: list[AppendRequest]


class Outcome:
    """What a run decided, acted upon only once its commit is certain."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.refusals: list[Refusal] = []
        self.moves: list[Move] = []
        self.seen: list[tuple[int, Head]] = []
        self.frozen: list[tuple[str, str]] = []
        self.entries = 0

    def settle(self, heads: SeenHeads) -> None:
        """The commit took effect: remember the heads and answer everyone."""
        for org_id, head in self.seen:
            heads.set(org_id, head)
        for request, appended in self.answers:
            request.answer(appended)
        for request, error in self.refusals:
            request.refuse(error)


class Batch:
    """The turns of some lanes, and the transaction that carries them out."""

    def __init__(
        self,
        turns: Sequence[Turn],
        heads: SeenHeads,
        keyring: Callable[[bool], SigningKeyring],
        clock: Callable[[], int],
    ) -> None:
        self.turns = turns
        self._heads = heads
        self._keyring = keyring
        self._clock = clock
        self.now_us = clock()

    def moments(self) -> list[datetime]:
        """The times whose partitions this batch needs."""
        return [to_datetime(self.now_us)]

    async def run(self, transaction: AppendTransaction) -> Outcome:
        """Do all but the commit. Raises NotWritten; the caller commits or rolls back."""
        self.now_us = self._clock()
        outcome = Outcome()
        await transaction.begin()
        locked = await transaction.lock_heads([turn.lane.org_id for turn in self.turns])
        beyond = await transaction.orgs_beyond(
            [
                (org_id, row.head.seq)
                for org_id, row in locked.items()
                if row.head != self._heads.get(org_id)
            ]
        )
        uses = Uses(await idempotency.find(transaction, self._wanted_keys()))
        entries: list[Entry] = []
        for turn in self.turns:
            org_id = turn.lane.org_id
            row = locked.get(org_id)
            head = await self._base(transaction, turn, row, org_id in beyond, outcome)
            if head is not None:
                erasures = 0 if row is None else row.erasures
                entries += await self._extend(transaction, turn, head, erasures, uses, outcome)
        await self._write(transaction, entries, uses.new, outcome)
        return outcome

    def _wanted_keys(self) -> list[tuple[int, bytes]]:
        wanted = set()
        for turn in self.turns:
            for request in turn.requests:
                if request.idempotency is not None:
                    wanted.add((request.org_id, request.idempotency.key))
                wanted.update((request.org_id, use.key) for use in request.unique.values())
        return sorted(wanted)

    async def _base(
        self,
        transaction: AppendTransaction,
        turn: Turn,
        row: LockedHead | None,
        beyond: bool,
        outcome: Outcome,
    ) -> Head | None:
        """The head to extend, or None where the org takes nothing now."""
        lane = turn.lane
        if turn.requests[0].thaw:
            head = await head_for_thaw(
                transaction, lane.org_id, lane.org, row, self._keyring(False)
            )
            await transaction.thaw(lane.org_id, head)
            return head
        reason = None if row is None else row.frozen_reason
        if reason is None:
            reason = await self._check(transaction, lane, row, beyond)
            if reason is None:
                assert row is not None
                outcome.seen.append((lane.org_id, row.head))
                return row.head
            await transaction.freeze(lane.org_id, reason)
            outcome.frozen.append((lane.org, reason))
        error = OrgFrozen(lane.org, reason)
        outcome.refusals += [(request, error) for request in turn.requests]
        return None

    async def _check(
        self, transaction: AppendTransaction, lane: Lane, row: LockedHead | None, beyond: bool
    ) -> str | None:
        seen = self._heads.get(lane.org_id)
        reason = await why_not(
            transaction, lane.org_id, lane.org, row, seen, self._keyring(False), beyond
        )
        if reason is None:
            return None
        # Another server may sign with a key rotated in after this one read its
        # keyring: only a fresh keyring may condemn.
        return await why_not(
            transaction, lane.org_id, lane.org, row, seen, self._keyring(True), beyond
        )

    async def _extend(
        self,
        transaction: AppendTransaction,
        turn: Turn,
        head: Head,
        erasures: int,
        uses: Uses,
        outcome: Outcome,
    ) -> list[Entry]:
        lane = turn.lane
        fresh = [request for request in turn.requests if not _is_stale(request, erasures, outcome)]
        ready = [request for request in fresh if await _effected(request, transaction, outcome)]
        plan = assemble(ready, head.seq, uses, outcome.refusals)
        drafts: list[Draft] = [draft for request in plan for draft in request.drafts]
        entries, new = extend(
            lane.org_id, lane.org, head, drafts, self.now_us, self._keyring(False).active
        )
        stored = await idempotency.entries_of(
            transaction, lane.org_id, [seq for request in plan for seq in request.older(head.seq)]
        )
        for request in plan:
            outcome.answers.append((request.request, request.appended(head, entries, stored, new)))
        if entries:
            outcome.moves.append(Move(lane.org_id, head, new))
            outcome.seen.append((lane.org_id, new))
            outcome.entries += len(entries)
        return entries

    async def _write(
        self,
        transaction: AppendTransaction,
        entries: list[Entry],
        uses: list[KeyUse],
        outcome: Outcome,
    ) -> None:
        if entries:
            await transaction.copy_entries(entries)
            await transaction.move_heads(outcome.moves)
        if uses:
            await idempotency.record(transaction, to_datetime(self.now_us).date(), uses)


def _is_stale(request: AppendRequest, erasures: int, outcome: Outcome) -> bool:
    if request.erasures is None or request.erasures == erasures:
        return False
    outcome.refusals.append((request, StaleSeal(erasures)))
    return True


async def _effected(
    request: AppendRequest, transaction: AppendTransaction, outcome: Outcome
) -> bool:
    if request.effect is None:
        return True
    refusal = await request.effect(transaction)
    if refusal is not None:
        outcome.refusals.append((request, refusal))
    return refusal is None
