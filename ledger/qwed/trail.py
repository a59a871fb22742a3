"""Verification of a whole QWED trail: one pass, constant memory, continuing after every fault."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, TypeVar

from ledger.qwed.row import Form, QwedRow
from ledger.qwed.verdict import QwedVerdict, usable_secrets, verify_row

_T = TypeVar("_T")
TrailVerdict: TypeAlias = Literal["verified", "refuted", "incomplete"]
MAX_FAULTS_LISTED: Final = 1_000
"""A report lists this many broken rows, errors and warnings; its counts stay exact."""


@dataclass(frozen=True, slots=True)
class TrailEnd:
    """A trail's end as known from another source: a backup, an export, an earlier report.

    The trail once had ``count`` rows, the last with ``entry_hash``. It may have grown
    since.
    """

    count: int | None = None
    entry_hash: str | None = None


NO_END: Final = TrailEnd()


@dataclass(slots=True)
class QwedReport:
    """The verdict on a trail.

    ``errors`` holds faults of rows, ``trail_errors`` faults of the whole trail.
    ``complete`` states whether the known end was reached, and is ``"not_checked"``
    without a known end: a trail that lost its last rows looks like a shorter trail.
    ``unsigned_entries`` were written before the chain began and can't be checked.
    """

    organization_id: int
    total_entries: int = 0
    verified_entries: int = 0
    failed_count: int = 0
    failed_entries: list[int] = field(default_factory=list)
    unsigned_count: int = 0
    unsigned_entries: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    trail_errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    forms: dict[Form, int] = field(default_factory=lambda: {"current": 0, "legacy": 0})
    complete: bool | Literal["not_checked"] = "not_checked"

    @property
    def verdict(self) -> TrailVerdict:
        """Refuted: a row failed or is known to be missing. Incomplete: rows can't be checked."""
        if self.failed_count or self.trail_errors:
            return "refuted"
        return "incomplete" if self.unsigned_count else "verified"

    @property
    def valid(self) -> bool:
        """Whether every row was checked and is valid, and no row is known to be missing."""
        return self.verdict == "verified"


class TrailVerifier:
    """Verifies an organization's rows one at a time, in the order of their ids.

    Keeps only the previous row of the chain; ``report`` counts the rows so far.
    Raises MissingKey without a secret.
    """

    def __init__(
        self, organization_id: int, secrets: Iterable[bytes], end: TrailEnd = NO_END
    ) -> None:
        self._secrets = usable_secrets(secrets)
        self._end = end
        self._end_seen = False
        self._previous: QwedRow | None = None
        self._unused = set(range(len(self._secrets)))
        self._signature_faults = 0
        self.report = QwedReport(organization_id)

    def check(self, row: QwedRow) -> QwedVerdict:
        """Return the verdict on the next row, and count it in the report."""
        verdict = verify_row(row, self._previous, self._secrets)
        if self._previous is not None or not row.outside_chain:
            self._previous = row
        self.report.total_entries += 1
        if row.entry_hash == self._end.entry_hash and self._end.count in (
            None,
            self.report.total_entries,
        ):
            self._end_seen = True
        self._count(verdict)
        return verdict

    @property
    def wrong_secrets(self) -> tuple[int, ...]:
        """The indexes of the secrets that signed no row, if some rows fail by signature only.

        Such a row has the hash of its content, so a wrong secret is likelier than an
        altered row. An altered signature among valid ones is a fault.
        """
        return tuple(sorted(self._unused)) if self._signature_faults else ()

    def _count(self, verdict: QwedVerdict) -> None:
        report = self.report
        if verdict.secret is not None:
            self._unused.discard(verdict.secret)
        elif verdict.hash_valid:
            self._signature_faults += 1
        if verdict.form:
            report.forms[verdict.form] = report.forms.get(verdict.form, 0) + 1
        if verdict.valid:
            report.verified_entries += 1
        elif verdict.unsigned:
            report.unsigned_count += 1
            _append_bounded(report.unsigned_entries, verdict.row_id)
        else:
            report.failed_count += 1
            _append_bounded(report.failed_entries, verdict.row_id)
        for error in verdict.errors:
            _append_bounded(report.errors, f"row {verdict.row_id}: {error}")
        for warning in verdict.warnings:
            _append_bounded(report.warnings, f"row {verdict.row_id}: {warning}")

    def finish(self, *lost: str, changed: Iterable[str] = ()) -> QwedReport:
        """Complete and return the report after the last row.

        ``lost`` describes rows that the caller knows to be missing, ``changed`` rows
        that it knows to have been altered.
        """
        report = self.report
        missing = [*lost, *self._end_faults()]
        report.trail_errors = [*changed, *missing]
        if missing:
            report.complete = False
        elif self._end != NO_END:
            report.complete = True
        return report

    def _end_faults(self) -> Iterable[str]:
        count, total = self._end.count, self.report.total_entries
        if total == 0 and count != 0:
            yield (
                f"No rows for organization {self.report.organization_id}: "
                "the trail was wiped, or never existed"
            )
        elif count is not None and total < count:
            yield f"Trail cut short: {total} rows, but {count} were known"
        if self._end.entry_hash is not None and not self._end_seen:
            yield (
                f"Known head {self._end.entry_hash} is not in its place: "
                "rows at the end were removed or replaced"
            )


def verify_trail(
    rows: Iterable[QwedRow],
    organization_id: int,
    secrets: Iterable[bytes],
    end: TrailEnd = NO_END,
) -> QwedReport:
    """Verify an organization's rows, given in the order of their ids.

    Raises MissingKey without a secret; faults of rows are in the report.
    """
    verifier = TrailVerifier(organization_id, secrets, end)
    for row in rows:
        verifier.check(row)
    return verifier.finish()


def _append_bounded(faults: list[_T], fault: _T) -> None:
    if len(faults) < MAX_FAULTS_LISTED:
        faults.append(fault)
