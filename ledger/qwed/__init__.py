"""QWED's audit log: its rows, their four hashed forms, and their verification.

QWED keeps a trail per organization in a table ``verificationlog``. A row's
``entry_hash`` is SHA-256, in hex, over JSON with sorted keys and Python's default
separators (``", "`` and ``": "``, all but ASCII escaped), of these fields:

admission
    admission, api_key_id, domain, is_verified, organization_id, previous_hash, query,
    raw_llm_output, result, timestamp, user_id, verifier_version: QWED 8
caller
    the same without ``admission``
current
    domain, is_verified, organization_id, previous_hash, query, raw_llm_output,
    result, timestamp, user_id
legacy
    the same without ``raw_llm_output``, which is not protected in such a row

A form is accepted only for a row whose other columns of QWED 8 are null.

``result`` is hashed as the JSON value, ``timestamp`` as ISO 8601, and
``hmac_signature`` is HMAC-SHA256, in hex, over the hex text of ``entry_hash``.
``previous_hash`` is the hash of the organization's row with the next lower id.
"""

from __future__ import annotations

from ledger.qwed.event import (
    CORRECTION_TYPE,
    EVENT_TYPE,
    correcting_event,
    imported_event,
    referenced_row,
    row_reference,
)
from ledger.qwed.imported import ImportedRow, RecordedVerdict
from ledger.qwed.row import (
    Column,
    Form,
    MalformedQwedRow,
    QwedRow,
    canonical_json,
    hash_fields,
    iso_time,
    sign_hash,
)
from ledger.qwed.trail import (
    MAX_FAULTS_LISTED,
    NO_END,
    QwedReport,
    TrailEnd,
    TrailVerdict,
    TrailVerifier,
    verify_trail,
)
from ledger.qwed.verdict import Check, Outcome, QwedVerdict, usable_secrets, verify_row

__all__ = [
    "CORRECTION_TYPE",
    "EVENT_TYPE",
    "MAX_FAULTS_LISTED",
    "NO_END",
    "Check",
    "Column",
    "Form",
    "ImportedRow",
    "MalformedQwedRow",
    "Outcome",
    "QwedReport",
    "QwedRow",
    "QwedVerdict",
    "RecordedVerdict",
    "TrailEnd",
    "TrailVerdict",
    "TrailVerifier",
    "canonical_json",
    "correcting_event",
    "hash_fields",
    "imported_event",
    "iso_time",
    "referenced_row",
    "row_reference",
    "sign_hash",
    "usable_secrets",
    "verify_row",
    "verify_trail",
]
