"""A batch that is written whole or not at all: requests of several orgs that belong together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from ledger.core.sequencer.batch import Batch
from ledger.core.sequencer.lane import Lane
from ledger.core.sequencer.outcome import BatchOutcome, BatchTools, LaneBatch
from ledger.core.sequencer.request import AppendRequest
from ledger.storage.trail import AppendTransaction

REFUSED: Final = "another part of this change was refused"


class Refused(Exception):
    """A request of the batch was refused, so none of it is written."""

    def __init__(self, outcome: BatchOutcome) -> None:
        super().__init__(REFUSED)
        self.outcome = outcome


class WholeBatch(Batch):
    """The requests of several orgs, each the only one of its lane.

    ``locks`` are further orgs whose head rows the requests' effects change: all are locked in one
    order.
    """

    _undoes_effects = False

    def __init__(
        self, requests: Sequence[AppendRequest], tools: BatchTools, locks: Collection[int] = ()
    ) -> None:
        lanes = [LaneBatch(Lane(one.org_id, one.org), [one]) for one in requests]
        super().__init__(lanes, tools)
        self.requests = requests
        self._locks = locks

    async def run(self, transaction: AppendTransaction) -> BatchOutcome:
        """Run the transaction up to COMMIT. Raises NotWritten, and Refused to roll it back."""
        outcome = await super().run(transaction)
        if outcome.refusals:
            raise Refused(outcome)
        return outcome

    def _locked_orgs(self) -> list[int]:
        return [*super()._locked_orgs(), *self._locks]
