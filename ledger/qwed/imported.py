"""A row as an earlier import recorded it: whether it is the same row, and judged rightly."""

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
    """A verdict as an entry holds it: its word, and the names of the checks that hold."""

    outcome: str | None
    held: frozenset[str]

    @classmethod
    def recorded(cls, outcome: str | None, payload: object) -> RecordedVerdict:
        """From an entry's ``outcome`` and its payload, None where that can't be read."""
        checks = _member(_member(_member(payload, "qwed"), "verdict"), "checks")
        held = checks.items() if isinstance(checks, Mapping) else ()
        return cls(outcome, frozenset(name for name, holds in held if holds is True))

    def corrected_by(self, verdict: QwedVerdict) -> bool:
        """Whether the verdict replaces this one.

        Only a broken row is judged again. It stays broken while no further check
        holds, so that imports with one secret and with another don't take turns.
        """
        if self.outcome != "broken":
            return False
        held = frozenset(name for name, holds in verdict.checks.items() if holds is True)
        return verdict.outcome != "broken" or held > self.held


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """A row that an org holds. ``row`` is None where the payload can't be read: it was erased."""

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
        """From an imported entry's fields and its payload."""
        judgement = RecordedVerdict.recorded(outcome, payload)
        return cls(row_id, record_id, timestamp, judgement, _kept_row(payload))

    def is_row(self, row: QwedRow) -> bool:
        """Whether this is the row: by hash, without one by content, when erased by its time."""
        if self.row is None:
            return _instant(self.timestamp) == _instant(claimed_time(row.timestamp))
        if isinstance(self.row.entry_hash, str) and self.row.entry_hash:
            return self.row.entry_hash == row.entry_hash
        return self.has_content(row)

    def has_content(self, row: QwedRow) -> bool:
        """Whether every column that QWED knows is as it was imported; False when erased."""
        again = QwedRow.from_columns(json_columns(row.columns))
        return self.row is not None and _comparable(self.row) == _comparable(again)


def _kept_row(payload: object) -> QwedRow | None:
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
    # A database that was moved may have columns with a time zone now.
    timestamp: Column = row.timestamp
    if isinstance(timestamp, str):
        timestamp = timestamp.removesuffix("+00:00")
    return replace(row, timestamp=timestamp)


def _instant(timestamp: str | None) -> datetime | None:
    try:
        return None if timestamp is None else datetime.fromisoformat(timestamp)
    except ValueError:
        return None
