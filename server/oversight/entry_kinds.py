"""The entries that acts of oversight leave in a trail."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from ledger.shapes import HashHex, TimeText
from server.feature import EntryKind

ACKNOWLEDGED: Final = "quire.security_event_acknowledged"
REVIEWED: Final = "quire.review_recorded"
ActorText = Annotated[str, Meta(examples=["key:9f86d081884c7d65"])]
DayText = Annotated[
    str, Meta(examples=["2026-01-31"], extra_json_schema={"format": "date", "title": "Day"})
]


class EventAcknowledged(Struct, kw_only=True):
    """An operator has dealt with a security event."""

    event_type: Literal["quire.security_event_acknowledged"]
    actor: ActorText
    """The API key that acknowledged the event."""
    action: Literal["acknowledge"]
    event: Annotated[int, Meta(examples=[7])]
    """The number of the event."""
    kind: Annotated[str, Meta(examples=["org_frozen"])]
    """What the event reports."""
    at: TimeText
    """When the event happened."""
    digest: HashHex
    """The digest of the event's row (docs/format.md)."""
    reason: Annotated[str, Meta(examples=["restored from the backup of 3 May"])]
    """Why it needs no more attention."""


class ReviewRecorded(Struct, kw_only=True):
    """Someone states that the trail of a period was reviewed."""

    event_type: Literal["quire.review_recorded"]
    actor: ActorText
    """The reviewer: the API key that made the statement."""
    action: Literal["review"]
    period_start: DayText
    """The first day of the period (UTC)."""
    period_end: DayText
    """The last day of the period (UTC)."""
    notes: Annotated[str, Meta(examples=["two refused logins, both explained"])]
    """What the reviewer found."""


ENTRY_KINDS: Final = (
    EntryKind(
        ACKNOWLEDGED,
        "An operator has dealt with a security event: who, which one, and why.",
        f"{__name__}:EventAcknowledged",
    ),
    EntryKind(
        REVIEWED,
        "The caller states that the trail of some days was reviewed.",
        f"{__name__}:ReviewRecorded",
        "At each call.",
    ),
)
