"""Verifications as the API reads and shows them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from ledger.chain import FAULT_KIND, NO_FAULT_OR_ONE, TrailFault
from ledger.core.verification.own_jobs import Job, State
from ledger.core.verification.single import RecordChecks
from ledger.core.verification.work.faults import CHECKS_OF_KIND, Result
from ledger.entry import rfc3339
from ledger.shapes import RECORD_ID_EXAMPLE, RecordIdText, Seq, TimeText, shape
from ledger.verdict import Verdict
from server.http.api.schemas import REFS
from server.http.contract import ResponseHeader
from server.trails.appending import JSON

WATCHED: Final = {
    "description": "A stream of server-sent events: `progress` each time the verification changes, "
    "`done` at its end",
    "anyOf": [
        {"type": "string", "description": "The stream as text."},
        {"$ref": REFS.format(name="WatchedEvent"), "description": "One event, once it is read."},
    ],
    "examples": [
        'event: progress\r\ndata: {"id":"ver_5f0c6d1f8a0f4e7c9d5b2a1e3c4d6f70","state":"running"}'
        "\r\n\r\n",
    ],
}
UNBUFFERED: Final = ResponseHeader(
    "X-Accel-Buffering", "A proxy passes each event on at once", "no"
)
JobState = Annotated[
    State,
    shape(
        "JobState",
        "How far a verification is: it waits, runs, is done, or failed before it had a result.",
        "done",
    ),
]
RowOutcome = Annotated[
    Literal["valid", "broken", "unsigned"],
    shape(
        "RowOutcome",
        "The verdict on a QWED row: its hash, signature and link are right (valid), one of them "
        "is wrong (broken), or it was written before QWED signed rows (unsigned).",
        "valid",
    ),
]
_Count = Annotated[int, Meta(examples=[42], extra_json_schema={"minimum": 0})]


class VerifyRange(Struct, forbid_unknown_fields=True):
    """What to verify, both ends included; null for the start, and for all there is."""

    from_seq: Annotated[int, Meta(ge=0, le=2**40, examples=[0])] | None = None
    """The first seq; null: 0."""
    to_seq: Annotated[int, Meta(ge=0, le=2**40, examples=[41])] | None = None
    """The last seq, included; null: the newest."""


class JobBody(Struct):
    """A verification of a trail or of a range."""

    id: Annotated[str, Meta(examples=["ver_5f0c6d1f8a0f4e7c9d5b2a1e3c4d6f70"])]
    """The id of the verification: "ver_" and 32 lower-case hex digits."""
    state: JobState
    """How far the verification is."""
    verdict: Verdict | None
    """The verdict; null until the state is "done"."""
    valid: bool | None
    """Whether the verdict is "verified"; null until the state is "done"."""
    from_seq: Annotated[Seq | None, Meta(examples=[None, 0])]
    """The first seq that was asked for; null: the start."""
    to_seq: Annotated[Seq | None, Meta(examples=[None, 41])]
    """The last seq that was asked for, included; null: the newest."""
    processed: _Count
    """How many entries were read so far."""
    total: _Count
    """How many entries there are to read; 0 until that is known."""
    rate: Annotated[float, Meta(examples=[120000.0], extra_json_schema={"minimum": 0})]
    """How many entries were read in a second, on average."""
    faults: Annotated[list[TrailFault], Meta(examples=NO_FAULT_OR_ONE)]
    """The faults found so far, by seq; the first 100 of them."""
    fault_count: Annotated[int, Meta(examples=[0], extra_json_schema={"minimum": 0})]
    """How many faults were found so far."""
    result: Result | None
    """The result; null until the state is "done"."""
    error: Annotated[str | None, Meta(examples=[None, "the server that ran it stopped"])]
    """Why the verification failed, which says nothing about the trail; null: it did not fail."""
    created_at: TimeText
    """When the verification was asked for."""
    finished_at: TimeText | None
    """When the verification ended; null: it has not."""


class ImportedRowBody(Struct):
    """The verdict on the QWED row that an entry carries."""

    organization_id: Annotated[int, Meta(examples=[1])]
    """The id of the organization in QWED."""
    row_id: Annotated[int, Meta(examples=[42])]
    """The id of the row in QWED."""
    outcome: RowOutcome | None
    """The verdict of the import, or of the entry that corrected it since; null: the entry was
    altered and has none."""
    corrected_by: Annotated[RecordIdText | None, Meta(examples=[None, RECORD_ID_EXAMPLE])]
    """The id of the entry that corrected the verdict of the import; null: none did."""

    @property
    def verdict(self) -> Verdict:
        """The outcome as a verdict: an unsigned row can't be checked, so it is incomplete."""
        if self.outcome == "valid":
            return Verdict.VERIFIED
        return Verdict.INCOMPLETE if self.outcome == "unsigned" else Verdict.REFUTED

    @property
    def errors(self) -> list[str]:
        """The reasons why the row is not valid; empty if it is."""
        if self.outcome == "valid":
            return []
        return [f"row: QWED's row {self.row_id} is {self.outcome or 'without verdict'}"]


class EntryVerdict(Struct):
    """Whether one entry is intact, and what is wrong with it."""

    valid: bool
    """Whether the verdict is "verified"."""
    verdict: Verdict
    """The verdict on the entry, and on its QWED row where it was asked for by the row's id."""
    checks: RecordChecks
    """The answer of each check."""
    errors: Annotated[list[str], Meta(examples=[[], ["payload_mismatch: the payload was altered"]])]
    """What is wrong, as "kind: reason"; empty where nothing is."""
    record_id: RecordIdText
    """The id of the entry."""
    timestamp: TimeText
    """When the entry was written."""
    unsigned_entries: Annotated[
        int, Meta(examples=[0], extra_json_schema={"minimum": 0, "maximum": 1})
    ]
    """1: no signed checkpoint covers the entry yet, which leaves the verdict incomplete only where
    the entry waits longer than the limit; 0: a checkpoint covers it."""
    row: ImportedRowBody | None = None
    """The verdict on the QWED row that the entry carries; null: the entry was asked for by its
    record id."""


def watched_schemas() -> dict[str, Any]:
    """Return the schema of one server-sent event."""
    event = {
        "type": "object",
        "title": "WatchedEvent",
        "description": "One server-sent event about a verification.",
        "required": ["event", "data"],
        "properties": {
            "event": {
                "type": "string",
                "enum": ["progress", "done"],
                "description": "`done` for the last event, `progress` for those before it.",
                "examples": ["progress"],
            },
            "data": {
                "type": "string",
                "contentMediaType": JSON,
                "description": "The verification, a JobBody as JSON.",
                "examples": ['{"id":"ver_5f0c6d1f8a0f4e7c9d5b2a1e3c4d6f70","state":"running"}'],
            },
        },
    }
    return {"WatchedEvent": event}


def fault_schemas() -> dict[str, Any]:
    """Return the schema of a kind of fault, which lists all kinds."""
    kind = {
        "type": "string",
        "title": FAULT_KIND.title,
        "description": FAULT_KIND.description,
        "enum": sorted(CHECKS_OF_KIND),
        "examples": FAULT_KIND.examples,
    }
    return {"FaultKind": kind}


def job_body(job: Job) -> JobBody:
    """Return a verification as the API shows it."""
    return JobBody(
        job.id,
        job.state,
        None if job.result is None else job.result.verdict,
        None if job.result is None else job.result.valid,
        job.from_seq,
        job.to_seq,
        job.processed,
        job.total,
        round(job.rate, 1),
        job.faults,
        job.fault_count,
        job.result,
        job.error,
        rfc3339(job.created_at),
        None if job.finished_at is None else rfc3339(job.finished_at),
    )
