"""Sends imported rows and corrected verdicts to an org, in atomic batches."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from ledger.client import AsyncLedgerClient, ProblemError
from ledger.errors import QuireError
from ledger.qwed import ImportedRow, QwedRow, QwedVerdict, correcting_event, imported_event
from server.cli.imports.reading import ImportOutcome

BATCH_EVENTS: Final = 1_000
BATCH_BYTES: Final = 8 * 1024 * 1024


class RowRefused(QuireError):
    """The server refused a row, such as one larger than its payload limit."""


class _QueuedRow(NamedTuple):
    row_id: int
    event: bytes
    corrects: bool


class SendingWriter:
    """A writer that appends rows and corrections, and counts them once they are durable."""

    def __init__(self, client: AsyncLedgerClient, organization_id: int) -> None:
        self._client = client
        self._organization_id = organization_id
        self._batch: list[_QueuedRow] = []
        self._batch_bytes = 0

    async def row(self, row: QwedRow, verdict: QwedVerdict, outcome: ImportOutcome) -> None:
        """Append the row. A crash before its batch is sent leaves no entry of it."""
        event = imported_event(self._organization_id, row, verdict)
        await self._add(row.id, event, outcome, corrects=False)

    async def correction(
        self, imported: ImportedRow, verdict: QwedVerdict, outcome: ImportOutcome
    ) -> None:
        """Append the verdict that replaces the verdict of an imported row."""
        event = correcting_event(self._organization_id, imported.record_id, verdict)
        await self._add(imported.row_id, event, outcome, corrects=True)

    async def finish(self, outcome: ImportOutcome) -> None:
        """Send the last batch."""
        if not self._batch:
            return
        try:
            await self._client.append_many([item.event for item in self._batch], minimal=True)
        except ProblemError as error:
            raise self._refused(error, outcome) from error
        corrected = sum(item.corrects for item in self._batch)
        outcome.corrected += corrected
        outcome.imported += len(self._batch) - corrected
        self._batch, self._batch_bytes = [], 0

    async def _add(
        self, row_id: int, fields: dict[str, Any], outcome: ImportOutcome, *, corrects: bool
    ) -> None:
        event = msgspec.json.encode(fields)
        if self._batch_bytes + len(event) > BATCH_BYTES or len(self._batch) >= BATCH_EVENTS:
            await self.finish(outcome)
        self._batch.append(_QueuedRow(row_id, event, corrects))
        self._batch_bytes += len(event)

    def _refused(self, error: ProblemError, outcome: ImportOutcome) -> QuireError:
        """Return an error that names the refused row; a refused batch left no entry."""
        if error.index is None or error.index >= len(self._batch):
            return error
        return RowRefused(
            f"row {self._batch[error.index].row_id} was refused: {error}. "
            f"The {outcome.imported} rows before its batch are imported; "
            "run the import again to continue there"
        )
