"""A row recorded by an earlier import, and its comparison with the present row and verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ledger.qwed.event import claimed_time, json_columns
from ledger.qwed.row import Column, MalformedQwedRow, QwedRow
from ledger.qwed.verdict import QwedVerdict


@dataclass(frozen=True, slots=True)
class RecordedVerdict:
    """A verdict recorded in an entry: its outcome, and the names of the checks that passed."""

    outcome: str | None
    passed: frozenset[str]

    @classmethod
    def recorded(cls, outcome: str | None, payload: object) -> RecordedVerdict:
        """Read an entry's ``outcome`` and payload; the payload is None if it can't be read."""
        checks = _member(_member(_member(payload, "qwed"), "verdict"), "checks")
        return cls(outcome, _passed(checks if isinstance(checks, Mapping) else {}))

    def corrected_by(self, verdict: QwedVerdict) -> bool:
        """Return whether the verdict replaces this one.

        Only a broken row is judged again. It stays broken unless a further check
        passes, so that alternating imports with two secrets do not alternate the
        verdict.
        """
        if self.outcome != "broken":
            return False
        return verdict.outcome != "broken" or _passed(verdict.checks) > self.passed


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """A row that an org has imported. ``row`` is None if its payload was erased."""

    row_id: int
    record_id: str
    timestamp: str | None
    judgement: RecordedVerdict
    row: QwedRow | None

    @classmethod
    def recorded(
        cls,
        row_id: int,
        record_id: str,
        timestamp: str | None,
        outcome: str | None,
        payload: object,
    ) -> ImportedRow:
        """Read an imported entry's fields and payload."""
        judgement = RecordedVerdict.recorded(outcome, payload)
        return cls(row_id, record_id, timestamp, judgement, _imported_columns(payload))

    def is_row(self, row: QwedRow) -> bool:
        """Compare the rows by hash, by content if there is no hash, by time if erased."""
        if self.row is None:
            return _instant(self.timestamp) == _instant(claimed_time(row.timestamp))
        if isinstance(self.row.entry_hash, str) and self.row.entry_hash:
            return self.row.entry_hash == row.entry_hash
        return self.has_content(row)

    def has_content(self, row: QwedRow) -> bool:
        """Return whether all columns known to QWED equal the imported ones; False if erased."""
        present = QwedRow.from_columns(json_columns(row.columns))
        return self.row is not None and _comparable(self.row) == _comparable(present)


def _passed(checks: Mapping[str, object]) -> frozenset[str]:
    return frozenset(name for name, answer in checks.items() if answer is True)


def _imported_columns(payload: object) -> QwedRow | None:
    columns = _member(_member(payload, "qwed"), "row")
    if not isinstance(columns, dict):
        return None
    try:
        return QwedRow.from_columns(columns)
    except MalformedQwedRow:
        return None


def _member(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _comparable(row: QwedRow) -> QwedRow:
    # After a database was moved, its columns may have a time zone.
    timestamp: Column = row.timestamp
    if isinstance(timestamp, str):
        timestamp = timestamp.removesuffix("+00:00")
    return replace(row, timestamp=timestamp)


def _instant(timestamp: str | None) -> datetime | None:
    try:
        return None if timestamp is None else datetime.fromisoformat(timestamp)
    except ValueError:
        return None
