"""Sends a QWED trail's rows into an org as entries, each with its verdict.

Stopping is safe at any time: the next run asks the org for its newest imported
row and goes on behind it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ledger.client import AsyncLedgerClient, ProblemError
from ledger.errors import QuireError
from ledger.qwed import (
    EVENT_TYPE,
    MAX_FAULTS_LISTED,
    QwedReport,
    QwedRow,
    QwedVerdict,
    TrailVerifier,
    imported_event,
    referenced_row,
)

BATCH_EVENTS: Final = 1_000
BATCH_BYTES: Final = 8 * 1024 * 1024


class RowRefused(QuireError):
    """A row that the server would not take, such as one larger than its payload limit."""


@dataclass(slots=True)
class ImportOutcome:
    """What an import found and did; ``broken`` lists at most MAX_FAULTS_LISTED rows."""

    report: QwedReport
    imported: int = 0
    already_imported: int = 0
    broken: list[QwedVerdict] = field(default_factory=list)


class TrailImport:
    """One run: verifies every row from the first on, sends those that are not there yet."""

    def __init__(
        self,
        client: AsyncLedgerClient,
        verifier: TrailVerifier,
        progress: Callable[[ImportOutcome], None],
    ) -> None:
        self._client = client
        self._verifier = verifier
        self._progress = progress
        self._batch: dict[int, bytes] = {}  # by row id
        self._batch_bytes = 0
        self._outcome = ImportOutcome(verifier.report)
        self._organization_id = verifier.report.organization_id

    async def run(self, rows: AsyncGenerator[QwedRow, None]) -> ImportOutcome:
        """Import the rows, given in the order of their ids. Raises QuireError."""
        newest = await self._newest_imported()
        seen = newest is None
        async with aclosing(rows):
            async for row in rows:
                seen = seen or row.id == newest
                await self._take(row, there=newest is not None and row.id <= newest)
        await self._send()
        self._verifier.finish(*([] if seen else [f"Row {newest}, imported earlier, is gone"]))
        return self._outcome

    async def _newest_imported(self) -> int | None:
        """The id of the newest row of this organization that the org already holds.

        Unique keys alone would not do: the server forgets them after some days.
        """
        async for entry in self._client.entries(event_type=EVENT_TYPE, order="desc"):
            row_id = referenced_row(self._organization_id, entry.action)
            if row_id is not None:
                return row_id
        return None

    async def _take(self, row: QwedRow, *, there: bool) -> None:
        verdict = self._verifier.check(row)
        if not verdict.valid and len(self._outcome.broken) < MAX_FAULTS_LISTED:
            self._outcome.broken.append(verdict)
        if there:
            self._outcome.already_imported += 1
            return
        event = msgspec.json.encode(imported_event(self._organization_id, row, verdict))
        if self._batch_bytes + len(event) > BATCH_BYTES or len(self._batch) >= BATCH_EVENTS:
            await self._send()
        self._batch[row.id] = event
        self._batch_bytes += len(event)

    async def _send(self) -> None:
        if self._batch:
            try:
                await self._client.append_many(list(self._batch.values()), minimal=True)
            except ProblemError as error:
                raise self._refused(error) from error
            self._outcome.imported += len(self._batch)
            self._batch, self._batch_bytes = {}, 0
        self._progress(self._outcome)

    def _refused(self, error: ProblemError) -> QuireError:
        """The refusal, naming the row it is about; a batch that was refused left nothing."""
        if error.index is None or error.index >= len(self._batch):
            return error
        return RowRefused(
            f"row {list(self._batch)[error.index]} was refused: {error}. "
            f"The {self._outcome.imported} rows before its batch are imported; "
            "run the import again to go on there"
        )
