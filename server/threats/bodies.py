"""Threats as the API shows them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ledger.entry import rfc3339
from ledger.shapes import SlugText, TimeText, shape
from server.threats.levels import ThreatLevel
from server.threats.store import StoredScore
from server.threats.summary import ThreatSummary, parts_of

Score = Annotated[int, Meta(ge=0, le=100, examples=[60])]
Count = Annotated[int, Meta(examples=[12])]
Parts = Annotated[dict[str, int], Meta(examples=[{"event": 30, "many_blocked": 30}])]
Counts = Annotated[dict[str, int], Meta(examples=[{"authentication": 12}])]
LevelText = Annotated[
    ThreatLevel,
    shape("ThreatLevel", "The level of a period: LOW, MEDIUM, HIGH or CRITICAL.", "MEDIUM"),
]
KeyIdText = Annotated[str, Meta(examples=["9f86d081884c7d65"])]


class OrgScoreBody(Struct):
    """The highest score of an event of the org within the period."""

    score: Score
    """0 to 100; an alert is due from 75 on."""
    parts: Parts
    """The points of each part; their sum may exceed 100."""
    at: TimeText
    """When the score was reached."""


class KeyScoreBody(OrgScoreBody):
    """The highest score of an event of an API key."""

    key: KeyIdText
    """The id of the key."""


class AddressScoreBody(OrgScoreBody):
    """The highest score of an event of an address."""

    digest: Annotated[str, Meta(examples=["0f5a3c9d2b7e41860f5a3c9d2b7e4186"])]
    """The keyed digest of the address; of an IPv6 address, of its /64."""
    network: Annotated[str, Meta(examples=["192.0.2.0/24"])]
    """The network that holds the address: a /24, of IPv6 a /48."""


class ThreatMetrics(Struct):
    """What is counted in the period."""

    total_events: Count
    """Security events; occurrences of the same kind by the same caller are one event a minute."""
    blocked_attempts: Count
    """How often something was blocked, each occurrence counted."""
    high_severity_events: Count
    """Security events of the severity high or critical."""
    recent_failures_10min: Count
    """How often something was blocked within the last ten minutes."""


class ThreatsBody(Struct):
    """The threats to an org in the last 24 hours, and who contributes to them."""

    org: SlugText
    """The slug of the org."""
    period_hours: Annotated[int, Meta(examples=[24])]
    """The period."""
    level: LevelText
    """The level of the period, by its events."""
    score: OrgScoreBody | None
    """The highest score of the org; null: no event weighed anything."""
    metrics: ThreatMetrics
    """What is counted."""
    by_kind: Counts
    """The events of each kind."""
    by_layer: Counts
    """The events of each layer, the part of the server that noticed them."""
    keys: list[KeyScoreBody]
    """The API keys with a score, the highest first; at most 100."""
    addresses: list[AddressScoreBody]
    """The addresses with a score, the highest first; at most 100."""
    generated_at: TimeText
    """When this was computed."""


class QwedThreatsBody(Struct):
    """The threats to an org in the last 24 hours, in QWED's shape."""

    organization_id: SlugText
    """The slug of the org."""
    period_hours: Annotated[int, Meta(examples=[24])]
    """The period."""
    threat_level: LevelText
    """The level of the period."""
    metrics: ThreatMetrics
    """What is counted."""
    security_layer_breakdown: Counts
    """The events of each layer."""
    generated_at: TimeText
    """When this was computed."""


class QwedEventBody(Struct):
    """A security event in QWED's shape."""

    id: Annotated[int, Meta(examples=[7])]
    """The number of the event."""
    timestamp: TimeText
    """When it happened."""
    event_type: Annotated[str, Meta(examples=["BLOCKED"])]
    """QWED's type of the event; a kind that QWED does not have is its own type, in capitals."""
    severity: Annotated[str, Meta(examples=["medium"])]
    """How serious it is."""
    security_layer: Annotated[str, Meta(examples=["gateway"])]
    """The part of the server that noticed it."""
    reason: Annotated[str, Meta(examples=["A query was blocked: 1"])]
    """What happened, in words."""
    query: Annotated[str | None, Meta(examples=[None])]
    """Always null: events hold no query."""
    user_id: Annotated[str | None, Meta(examples=[None])]
    """Always null: keys are known, not their users."""


class QwedEventsBody(Struct):
    """A page of security events in QWED's shape, newest first."""

    total: Annotated[int, Meta(examples=[42])]
    """How many events there are of this type; 100,000 for more."""
    next_before: Annotated[int, Meta(examples=[7])] | None
    """The ``before`` of the next page; null: this is the last page."""
    events: list[QwedEventBody]
    """The events of this page."""


def metrics_body(found: ThreatSummary) -> ThreatMetrics:
    """Return what is counted in a period."""
    return ThreatMetrics(found.total, found.blocked, found.serious, found.recent_blocked)


def threats_body(org: str, found: ThreatSummary, now: str) -> ThreatsBody:
    """Return the threats to an org as the API shows them."""
    return ThreatsBody(
        org,
        found.hours,
        found.level,
        None if found.org is None else OrgScoreBody(*_score(found.org)),
        metrics_body(found),
        found.by_kind(),
        found.by_layer(),
        [KeyScoreBody(*_score(one), one.name) for one in found.keys],
        [AddressScoreBody(*_score(one), one.name, one.network) for one in found.addresses],
        now,
    )


def _score(found: StoredScore) -> tuple[int, dict[str, int], str]:
    return found.score, parts_of(found.parts), rfc3339(found.at)
