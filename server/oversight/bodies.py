"""Security events and reviews as the API reads and shows them."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta, Struct

from ledger.core.org import OrgFacts
from ledger.core.sequencer import Appended
from ledger.entry import format_time, record_id, rfc3339
from ledger.shapes import RecordIdText, Seq, TimeText, shape
from ledger.storage.acknowledged_events import ListedEvent
from ledger.storage.event_kinds import EVENT_KINDS, SEVERITIES, Severity

Reason = Annotated[
    str, Meta(min_length=1, max_length=500, examples=["restored from the backup of 3 May"])
]
Notes = Annotated[str, Meta(max_length=2_000, examples=["two refused logins, both explained"])]
Day = Annotated[date, shape("Day", "A day in UTC (RFC 3339 full-date).", "2026-01-31")]
KeyIdText = Annotated[str, Meta(examples=["9f86d081884c7d65"])]
SecurityEventKind = Annotated[
    str,
    shape(
        "SecurityEventKind",
        "What happened. "
        + "; ".join(f"`{name}`: {kind.says}" for name, kind in EVENT_KINDS.items()),
        "org_frozen",
    ),
]
SeverityText = Annotated[
    Severity,
    shape("Severity", "How serious an event is: " + ", ".join(SEVERITIES) + ".", "critical"),
]


class AcknowledgeEvent(Struct, forbid_unknown_fields=True):
    """Why an event needs no more attention."""

    reason: Reason
    """The reason, which becomes part of an entry: 1 to 500 characters."""


class EventAcknowledgement(Struct):
    """Who acknowledged an event, when, and why."""

    at: TimeText
    """When the event was acknowledged."""
    key: KeyIdText
    """The id of the API key that acknowledged it."""
    reason: Reason
    """Why it needs no more attention."""


class SecurityEvent(Struct):
    """An event that an operator must know about."""

    id: Annotated[int, Meta(examples=[7])]
    """The number of the event on this server; later events have larger numbers."""
    at: TimeText
    """When it happened."""
    kind: SecurityEventKind
    """What happened."""
    severity: SeverityText
    """How serious it is."""
    layer: Annotated[str, Meta(examples=["trail"])]
    """The part of the server that noticed it."""
    score: Annotated[int, Meta(examples=[80])] | None
    """How the layer weighs it, 0 to 100; null where it does not."""
    key: KeyIdText | None
    """The id of the API key that it is about; null: it is about none."""
    detail: Annotated[str, Meta(examples=["entry 41 is missing"])]
    """What was found, in words."""
    details: Annotated[dict[str, Any], Meta(examples=[{}])]
    """What was found, for programs."""
    acknowledged: (
        Annotated[
            EventAcknowledgement,
            Meta(
                examples=[
                    {
                        "at": "2026-01-31T12:00:00.000000Z",
                        "key": "9f86d081884c7d65",
                        "reason": "restored from the backup of 3 May",
                    }
                ]
            ),
        ]
        | None
    )
    """Who has dealt with it; null: nobody yet."""


class SecurityEventList(Struct):
    """Security events of an org, newest first; follow ``next_cursor`` also from an empty page."""

    events: list[SecurityEvent]
    """The events of this page."""
    next_cursor: Annotated[int, Meta(examples=[7])] | None
    """The ``cursor`` of the next page; null: this is the last page."""


class RecordReview(Struct, forbid_unknown_fields=True):
    """A statement that the trail of a period was reviewed, by the caller."""

    period_start: Day
    """The first day of the period (UTC)."""
    period_end: Day
    """The last day of the period (UTC): not before the first, and not in the future."""
    notes: Notes = ""
    """What was found, at most 2,000 characters; it becomes part of an entry."""


class ReviewBody(Struct):
    """A review, as it stands in the trail."""

    record_id: RecordIdText
    """The id of its entry."""
    seq: Seq
    """The number of its entry in the trail."""
    recorded_at: TimeText
    """When the entry was written."""
    reviewer: Annotated[str, Meta(examples=["key:9f86d081884c7d65"])]
    """The caller, by its API key."""
    period_start: Day
    """The first day of the period (UTC)."""
    period_end: Day
    """The last day of the period (UTC)."""
    notes: Notes
    """What was found."""


def event_body(event: ListedEvent) -> SecurityEvent:
    """Return an event as the API shows it."""
    row, said = event.row, event.acknowledged
    return SecurityEvent(
        row.id,
        rfc3339(row.at),
        row.kind,
        cast("Severity", row.severity),
        row.layer,
        row.score,
        row.key_id,
        row.detail,
        _object(row.details),
        None if said is None else EventAcknowledgement(rfc3339(said.at), said.key_id, said.reason),
    )


def review_body(org: OrgFacts, asked: RecordReview, actor: str, done: Appended) -> ReviewBody:
    """Return a review that was just recorded."""
    (place,) = done.receipts()
    return ReviewBody(
        record_id(org.id, place.anchored_us, place.seq),
        place.seq,
        format_time(place.anchored_us),
        actor,
        asked.period_start,
        asked.period_end,
        asked.notes,
    )


def _object(text: str) -> dict[str, Any]:
    """Return a JSON object; an empty one for a text that is none, as somebody changed it."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        return {}
