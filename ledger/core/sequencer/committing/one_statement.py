"""The change of one row with its entry, as one statement: the usual case of an administrative change.

A process that wrote the newest entry of a trail knows what the next one must say. So it makes the
entry before it asks the database, which writes it only if the trail still ends so. If anything is
otherwise, nothing is written, and the batch runs as a transaction that finds out why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ledger.chain import StoredEntry, next_time_us
from ledger.core.sequencer.extension import LaneExtension
from ledger.core.sequencer.outcome import BatchOutcome, BatchTools, LaneBatch
from ledger.core.sequencer.replay import KeyUses, assemble
from ledger.core.sequencer.request import AppendRequest, RowEffect
from ledger.entry import to_datetime
from ledger.storage.entries.heads import KnownEnd
from ledger.storage.trail import AppendTransaction, HeadMove

MAX_BYTES: Final = 16 << 10
"""The payload of a change that is written so; PostgreSQL keeps the plan of the statement."""


class OneStatement:
    """One request that changes a row, placed after the end of its trail as this process knows it."""

    def __init__(
        self, effect: RowEffect, end: KnownEnd, extension: LaneExtension, entry: StoredEntry
    ) -> None:
        self.outcome = BatchOutcome(may_arrive=True)
        self._effect = effect
        self._end = end
        self._extension = extension
        self._entry = entry

    @classmethod
    def of(cls, turns: Sequence[LaneBatch], tools: BatchTools) -> OneStatement | None:
        """Return the statement of a batch; None if the batch needs more than one.

        Raises ClockUnsteady.
        """
        request = _only_request(turns)
        if request is None or request.row is None or tools.freezes.reason(request.org_id):
            return None
        end = tools.heads.known_end(request.org_id)
        if end is None or not _is_permitted(request, end):
            return None
        now_us = tools.clock()
        at = to_datetime(next_time_us(now_us, end.head))
        placed = assemble([request], end.head.seq, at, KeyUses({}, {}), [])
        extension = LaneExtension(turns[0].lane, end.head, end.thawed_us, end.counts, placed)
        (entry,) = extension.produce(now_us, tools.keyring(False).active)
        return cls(request.row, end, extension, entry)

    async def commit(self, transaction: AppendTransaction) -> bool:
        """Run the statement; False if nothing was written. Raises CommitUnknown."""
        extension, outcome = self._extension, self.outcome
        outcome.entries = 1
        outcome.answers = extension.answers({})[0]
        # Stated before: if the outcome is unknown, it is read back from these.
        outcome.moves = [HeadMove(self._end.org_id, extension.head, extension.new_head)]
        outcome.seen = [extension.seen(None)]
        done = await transaction.change_at_once(self._effect.change, self._end, self._entry)
        if done is None:
            return False
        self._effect.created_at = done.created_at
        outcome.seen = [extension.seen(done.mark)]
        return True


def _is_permitted(request: AppendRequest, end: KnownEnd) -> bool:
    return request.permit is None or request.permit(end.counts.revocations)


def _only_request(turns: Sequence[LaneBatch]) -> AppendRequest | None:
    """Return the only request of a batch, if it is small and one event; else None."""
    if len(turns) != 1 or len(turns[0].requests) != 1:
        return None
    (request,) = turns[0].requests
    if request.row is None:
        return None
    small = len(request.drafts) == 1 and request.size_bytes <= MAX_BYTES
    plain = request.erasures is None and request.idempotency is None and not request.unique
    return request if small and plain and not request.alone else None
