"""The Quire event that imports a QWED row, and the event that corrects its verdict.

::

    {"event_type": "qwed.imported", "unique_key": "qwed:1:42", "action": "qwed:1:42",
     "actor": "qwed:user:7", "subject": "qwed:user:7", "outcome": "valid", "broken"
     or "unsigned", "timestamp": "2026-05-08T00:00:00Z",
     "qwed": {"row": {every column as it was stored}, "entry_hash": …, "hmac_signature": …,
              "form": "admission", "caller", "current", "legacy" or null,
              "verdict": {"valid": …, "checks": {…}, "errors": […], "warnings": […]}}}

A second event, which holds no content, corrects a wrong verdict::

    {"event_type": "qwed.corrected", "unique_key": "qwed:1:42:corrected:…",
     "action": "qwed:1:42", "outcome": …, "qwed": {"corrects": the record id of the first
     event, "form": …, "verdict": {…}}}

The same row and verdict always give the same bytes, so sending it again is safe.

Personal data: the row's user wrote its query and is the person concerned, so the
user is both ``actor`` and ``subject``. An org that seals encrypts the whole row
under that user's key, and erasing ``qwed:user:7`` makes all rows of that user
unreadable. A row without a user is sealed under the org's key. ``action`` names
the original row in the leaf, where it remains readable after an erasure. A
correction names no person: it must not bring back a person who has been erased.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from ledger.qwed.row import Column, QwedRow
from ledger.qwed.verdict import QwedVerdict

EVENT_TYPE: Final = "qwed.imported"
CORRECTION_TYPE: Final = "qwed.corrected"


def row_reference(organization_id: int, row_id: int) -> str:
    """Return the reference to an original row: its ``unique_key`` and ``action``."""
    return f"qwed:{organization_id}:{row_id}"


def referenced_row(organization_id: int, reference: str | None) -> int | None:
    """Return the row id in a reference of this organization, None for any other text."""
    _, _, row_id = (reference or "").rpartition(":")
    if row_id.isdecimal() and reference == row_reference(organization_id, int(row_id)):
        return int(row_id)
    return None


def imported_event(organization_id: int, row: QwedRow, verdict: QwedVerdict) -> dict[str, Any]:
    """Return the event for a row of this QWED organization's trail."""
    user = f"qwed:user:{row.user_id}" if type(row.user_id) is int else None
    reference = row_reference(organization_id, row.id)
    return {
        "event_type": EVENT_TYPE,
        "unique_key": reference,
        "action": reference,
        "actor": user,
        "subject": user,
        "outcome": verdict.outcome,
        "timestamp": claimed_time(row.timestamp),
        "qwed": {
            "row": json_columns(row.columns),
            "entry_hash": _json_value(row.entry_hash),
            "hmac_signature": _json_value(row.hmac_signature),
            "form": verdict.form,
            "verdict": _verdict_members(verdict),
        },
    }


def correcting_event(
    organization_id: int, corrected_record: str, verdict: QwedVerdict
) -> dict[str, Any]:
    """Return the event that replaces an imported row's verdict.

    ``corrected_record`` is the record id of the entry that imported the row.
    """
    reference = row_reference(organization_id, verdict.row_id)
    judgement = {
        "corrects": corrected_record,
        "form": verdict.form,
        "verdict": _verdict_members(verdict),
    }
    digest = hashlib.sha256(json.dumps(judgement).encode()).hexdigest()
    return {
        "event_type": CORRECTION_TYPE,
        "unique_key": f"{reference}:corrected:{digest[:32]}",
        "action": reference,
        "outcome": verdict.outcome,
        "qwed": judgement,
    }


def _verdict_members(verdict: QwedVerdict) -> dict[str, Any]:
    return {
        "valid": verdict.valid,
        "checks": verdict.checks,
        "errors": verdict.errors,
        "warnings": verdict.warnings,
    }


def claimed_time(timestamp: Column) -> str | None:
    """Return the row's time as RFC 3339 (QWED's clock is UTC), None if it is not a time."""
    if not isinstance(timestamp, str):
        return None
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return moment.isoformat() + "Z"
    return moment.isoformat()


def json_columns(columns: Mapping[str, Column]) -> dict[str, object]:
    """Return the columns as JSON values."""
    return {name: _json_value(value) for name, value in columns.items()}


def _json_value(value: Column) -> object:
    """Return the value itself, or an object that encodes a value that JSON does not have."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value
