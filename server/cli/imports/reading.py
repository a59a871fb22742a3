"""One pass over a QWED trail: verifies it, compares it with an org's rows, finds new rows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol

from ledger.qwed import (
    MAX_FAULTS_LISTED,
    ImportedRow,
    QwedReport,
    QwedRow,
    QwedVerdict,
    TrailVerifier,
)
from server.cli.imports.known import BrokenRows, KnownRows

PROGRESS_ROWS: Final = 1_000


@dataclass(slots=True)
class ImportOutcome:
    """The result of an import; ``broken`` lists at most MAX_FAULTS_LISTED rows.

    ``imported`` and ``corrected`` count written entries, ``would_import`` and ``would_correct``
    entries that an import has to write.
    """

    report: QwedReport
    imported: int = 0
    already_imported: int = 0
    corrected: int = 0
    would_import: int = 0
    would_correct: int = 0
    broken: list[QwedVerdict] = field(default_factory=list)

    @property
    def would_write(self) -> bool:
        """True if an import would write entries."""
        return bool(self.would_import or self.would_correct)


Progress = Callable[[ImportOutcome], None]


class RowWriter(Protocol):
    """Receives the rows and corrections that have to be written. Its methods raise QuireError."""

    async def row(self, row: QwedRow, verdict: QwedVerdict, outcome: ImportOutcome) -> None:
        """Write a row that the org does not hold."""
        ...

    async def correction(
        self, imported: ImportedRow, verdict: QwedVerdict, outcome: ImportOutcome
    ) -> None:
        """Write a better verdict on a row that the org holds as broken."""
        ...

    async def finish(self, outcome: ImportOutcome) -> None:
        """Called after the last row."""
        ...


class CountingWriter:
    """A writer that writes nothing: the pass only counts."""

    async def row(self, row: QwedRow, verdict: QwedVerdict, outcome: ImportOutcome) -> None:
        """Do nothing."""

    async def correction(
        self, imported: ImportedRow, verdict: QwedVerdict, outcome: ImportOutcome
    ) -> None:
        """Do nothing."""

    async def finish(self, outcome: ImportOutcome) -> None:
        """Do nothing."""


class Reading:
    """One pass over the rows of an organization.

    ``compared`` is the newest row id that could be compared on both sides; ``same`` is True if
    the rows of that id are equal.
    """

    def __init__(
        self,
        verifier: TrailVerifier,
        known: KnownRows,
        broken: BrokenRows,
        writer: RowWriter,
        progress: Progress,
    ) -> None:
        self._verifier = verifier
        self._known = known
        self._broken = broken
        self._writer = writer
        self._progress = progress
        self._newest_seen = known.newest_id is None
        self._changed: list[int] = []
        self.outcome = ImportOutcome(verifier.report)
        self.compared: int | None = None
        self.same = True

    @property
    def wrong_secrets(self) -> tuple[int, ...]:
        """Indexes of the secrets that signed no row; see TrailVerifier."""
        return self._verifier.wrong_secrets

    async def run(self, rows: AsyncGenerator[QwedRow, None]) -> None:
        """Read the rows, which are in the order of their ids. Raises QuireError."""
        async with aclosing(rows):
            async for row in rows:
                await self._take(row)
                if self.outcome.report.total_entries % PROGRESS_ROWS == 0:
                    self._progress(self.outcome)
        await self._writer.finish(self.outcome)
        self._progress(self.outcome)
        missing = f"Row {self._known.newest_id} was imported earlier and is missing now"
        self._verifier.finish(
            *(() if self._newest_seen else (missing,)),
            changed=[f"Row {row_id} differs from the imported row" for row_id in self._changed],
        )

    async def _take(self, row: QwedRow) -> None:
        verdict = self._verifier.check(row)
        if verdict.outcome == "broken" and len(self.outcome.broken) < MAX_FAULTS_LISTED:
            self.outcome.broken.append(verdict)
        newest = self._known.newest_id
        if newest is None or row.id > newest:
            self.outcome.would_import += 1
            await self._writer.row(row, verdict, self.outcome)
            return
        self._newest_seen = self._newest_seen or row.id == newest
        self.outcome.already_imported += 1
        self._compare(row)
        await self._judge_again(row, verdict)

    def _compare(self, row: QwedRow) -> None:
        known = self._known.by_id.get(row.id)
        if known is None:
            return
        self.compared, self.same = row.id, known.is_row(row)
        if not self.same:
            self._note_change(row.id)

    async def _judge_again(self, row: QwedRow, verdict: QwedVerdict) -> None:
        imported = await self._broken.find(row.id)
        if imported is None or imported.row is None:
            return  # an erased row can't be compared, so it keeps its verdict
        if not imported.has_content(row):
            self._note_change(row.id)
            return
        latest = self._known.corrections.get(row.id, imported.judgement)
        if latest.corrected_by(verdict):
            self.outcome.would_correct += 1
            await self._writer.correction(imported, verdict, self.outcome)

    def _note_change(self, row_id: int) -> None:
        if row_id not in self._changed[-1:] and len(self._changed) < MAX_FAULTS_LISTED:
            self._changed.append(row_id)
