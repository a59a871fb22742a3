"""The answers of QWED's audit routes, in the shapes of QWED 8.0.0.

``id`` of an entry is its seq. Members that QWED does not have are named so in their description.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from ledger.shapes import HashHex, RecordIdText, Seq, SlugText, TimeText, shape
from server.http.api.verifications import RowOutcome

AskingKey = Annotated[
    str | int,
    shape(
        "AskingKey",
        "The id of the API key that asked: QWED's number of an imported row, else Quire's.",
        "9f86d081884c7d65",
    ),
]
Status = Literal["VERIFIED", "NO_ENTRIES", "NOT_VERIFIED"]


class LogBody(Struct):
    """One verification, as it was imported from QWED or decided by this server."""

    id: Seq
    """The seq of the entry in the trail."""
    record_id: RecordIdText
    """The id of the entry in all other routes (not in QWED)."""
    request_input: Annotated[str | None, Meta(examples=["2 + 2 = 4"])]
    """What was to be verified; null where the caller may not open it, or nobody can."""
    verification_result: Annotated[str | None, Meta(examples=['{"verified": true}'])]
    """The result as JSON, as it is stored; null as for ``request_input``."""
    engine_used: Annotated[str | None, Meta(examples=["math"])]
    """The engine; QWED's domain."""
    verdict: Annotated[str | None, Meta(examples=["VERIFIED"])]
    """The verdict; null for a broken row, and where the payload is not shown."""
    status: Annotated[str | None, Meta(examples=["VERIFIED"])]
    """The status of the result, else the verdict; ``BROKEN`` for an imported row that does not verify."""
    admission: Annotated[str | None, Meta(examples=["ADMIT"])]
    """Whether the result was admitted; null for a broken row, and where it is not recorded."""
    latency_ms: Annotated[int, Meta(examples=[0])]
    """Always 0, as in QWED."""
    created_at: TimeText
    """When the verification was made: an imported row's own time, else when the entry was written."""
    entry_hash: HashHex
    """The hash of the entry in the trail."""
    api_key_id: AskingKey | None
    """The id of the API key that asked."""
    verifier_version: Annotated[str | None, Meta(examples=["8.0.0"])]
    """The version of the verifier."""


class LogPageBody(Struct):
    """A page of verifications, newest first; it may be empty while a search goes on."""

    total: Annotated[int, Meta(examples=[42])] | None
    """How many verifications the trail has; null while they are counted, and with a ``status``."""
    next_before: Annotated[int, Meta(examples=[17])] | None
    """The ``before`` of the next page; null: this is the last page."""
    logs: list[LogBody]
    """The verifications of this page."""


class ImportedBody(Struct):
    """What QWED itself stored of an imported row (not in QWED)."""

    organization_id: Annotated[int | None, Meta(examples=[1])]
    """QWED's id of the organization."""
    row_id: Annotated[int | None, Meta(examples=[42])]
    """QWED's id of the row."""
    outcome: RowOutcome | None
    """Whether the row verified, as last corrected."""
    entry_hash: Annotated[str | None, Meta(examples=["1519cf6bfda97e80"])]
    """QWED's hash of the row."""
    previous_hash: Annotated[str | None, Meta(examples=["1519cf6bfda97e80"])]
    """The hash of the row before."""
    hmac_signature: Annotated[str | None, Meta(examples=["f95f404c8a1d77b3"])]
    """QWED's signature of the hash."""


class LogDetailBody(LogBody):
    """One verification with what proves its entry."""

    previous_hash: HashHex | None
    """The hash of the entry before it in the trail."""
    hmac_signature: HashHex
    """The signature over the entry's hash."""
    imported: ImportedBody | None
    """What QWED stored, of an imported row that the caller may open."""


class EvidenceBody(Struct):
    """The verified verifications of a period."""

    organization_id: SlugText
    """The slug of the org."""
    period_start: TimeText | None
    """The first time of the period; null: from the first."""
    period_end: TimeText | None
    """The last time of the period; null: to the newest."""
    first_entry_id: Seq | None
    """The seq of the first verification; null without one."""
    last_entry_id: Seq | None
    """The seq of the last verification."""
    entries: Annotated[int, Meta(examples=[42])]
    """How many verifications the period has."""
    head_hash: HashHex | None
    """The hash of the last one's entry."""


class TrailCheckBody(Struct):
    """The verification of a period. Only what was checked and holds counts as verified."""

    organization_id: SlugText
    """The slug of the org."""
    start: TimeText | None
    """The first time of the period."""
    end: TimeText | None
    """The last time of the period."""
    status: Annotated[Status, Meta(examples=["VERIFIED"])]
    """VERIFIED: the trail and each verification of the period hold. NO_ENTRIES: the trail holds and
    has none in the period. NOT_VERIFIED: something does not hold, or was not checked; ``errors`` says what."""
    proof_ref: Annotated[str | None, Meta(examples=["sha256:5f0c6d1f8a0f4e7c"])]
    """``sha256:`` and the SHA-256 of the evidence as canonical JSON (RFC 8785); null unless VERIFIED."""
    evidence: EvidenceBody
    """What the status is about."""
    scope: Annotated[str, Meta(examples=["entries 0 to 41 of the trail: every entry …"])]
    """What was checked, in words."""
    total_entries: Annotated[int, Meta(examples=[42])]
    """How many verifications the period has."""
    verified_entries: Annotated[int, Meta(examples=[42])]
    """How many of them were checked and hold; 0 where the check did not end."""
    failed_entries: Annotated[int, Meta(examples=[0])]
    """How many of them do not hold: the entry is at fault, or the imported row is broken."""
    first_failed_entry_id: Seq | None
    """The seq of the first of these."""
    legacy_entries: Annotated[int, Meta(examples=[0])]
    """How many are rows that QWED wrote without hash and signature: there is nothing to check."""
    errors: Annotated[list[str], Meta(examples=[[]])]
    """The first 20 reasons why the status is NOT_VERIFIED."""
    total_errors: Annotated[int, Meta(examples=[0])]
    """How many reasons there are."""
    errors_truncated: Annotated[bool, Meta(examples=[False])]
    """Whether there are more than 20."""
