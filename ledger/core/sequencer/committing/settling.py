"""Ends a committed batch: freezes, the memory of heads, answers, late answers, the report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from ledger.core.sequencer.committing.mishaps import StepGuard
from ledger.core.sequencer.limits import BatchReport
from ledger.core.sequencer.outcome import BatchOutcome, BatchTools, LaneBatch
from ledger.errors import OutcomeUnknown
from ledger.storage.database import Database


class Settling:
    """Ends committed batches; ``observe`` gets a report of each."""

    def __init__(
        self,
        database: Database,
        tools: BatchTools,
        mishaps: StepGuard,
        observe: Callable[[BatchReport], None] | None,
    ) -> None:
        self._database = database
        self._tools = tools
        self._mishaps = mishaps
        self._observe = observe

    async def finish(
        self, outcome: BatchOutcome, turns: Sequence[LaneBatch], seconds: float
    ) -> None:
        """Freeze the orgs with a fault, and answer the callers of a committed batch."""
        await self.freeze(outcome)
        self._settle(outcome, turns)
        with self._mishaps.caught("observe"):
            self._report(outcome, len(turns), seconds)
        await self._answer_late(outcome, turns)

    async def freeze(self, outcome: BatchOutcome) -> None:
        """Freeze orgs whose heads have a fault; where that fails, the next append finds it again."""
        for fault in outcome.faults:
            with self._mishaps.caught("freeze"):
                await self._tools.freezes.freeze(*fault)

    def _settle(self, outcome: BatchOutcome, turns: Sequence[LaneBatch]) -> None:
        """Answer the callers of a committed batch; an error in one answer stops no other."""
        try:
            # A crash before this line leaves the entries durable, and no caller was answered.
            self._tools.heads.settle(outcome.seen)
        except Exception as error:  # noqa: BLE001 - what is not remembered is not acknowledged
            self._mishaps.report("remember", error)
            refuse_unanswered(turns)
            return
        try:
            outcome.settle()
        except Exception as error:  # noqa: BLE001 - committed: no caller may be left waiting
            self._mishaps.report("settle", error)
            for request, appended in outcome.answers:
                with contextlib.suppress(Exception):
                    request.answer(appended)
            for request, refusal in outcome.refusals:
                with contextlib.suppress(Exception):
                    request.refuse(refusal)
            refuse_unanswered(turns)

    async def _answer_late(self, outcome: BatchOutcome, turns: Sequence[LaneBatch]) -> None:
        """Answer the callers whose answers are read after the commit; the lanes wait meanwhile."""
        for late in outcome.late:
            with self._mishaps.caught("settle"):
                await late.give(self._database)
        if outcome.late:
            refuse_unanswered(turns)

    def _report(self, outcome: BatchOutcome, orgs: int, seconds: float) -> None:
        if self._observe is not None:
            self._observe(
                BatchReport(outcome.entries, orgs, seconds, [fault[1:] for fault in outcome.faults])
            )


def refuse_unanswered(turns: Sequence[LaneBatch]) -> None:
    """Refuse the requests of these turns that have no answer yet, with an unknown outcome."""
    reason = (
        "an internal error (see the server's log) prevented the answer, but this may have been "
        "written. Read the trail, or retry with the same idempotency key"
    )
    for request in (request for turn in turns for request in turn.requests):
        if not request.future.done():
            with contextlib.suppress(Exception):
                request.refuse(OutcomeUnknown(reason))
