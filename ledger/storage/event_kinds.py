"""The kinds of security events, each with its severity and the layer that raises it.

This is the one place that says how serious an event is; the code that stores one names its kind.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

Severity = Literal["low", "medium", "high", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)


class EventKind(NamedTuple):
    """How serious events of a kind are, the part of the server that raises them, and their meaning."""

    severity: Severity
    layer: str
    says: str


EVENT_KINDS: Final[dict[str, EventKind]] = {
    "org_frozen": EventKind("critical", "trail", "The org was frozen"),
    "row_not_authentic": EventKind("critical", "rows", "A row that decides was not written here"),
    "security_events_altered": EventKind(
        "critical", "rows", "Security events are not as the trail sealed them"
    ),
    "checkpoints_stopped": EventKind("critical", "signing", "Signing of the org's trail stopped"),
    "anchoring_stopped": EventKind("critical", "signing", "Signing of the anchor log stopped"),
    "anchor_log_faults": EventKind("critical", "signing", "The anchor log has faults"),
    "signing_late": EventKind("high", "signing", "Entries wait too long for a checkpoint"),
    "witness_refused": EventKind("high", "witnesses", "A witness refused to cosign"),
    "signing_key_missing": EventKind(
        "high", "keys", "A machine lacks the key that signed an entry of the trail system"
    ),
    "search_index_damaged": EventKind("high", "index", "The search index was changed"),
    "clock_leapt": EventKind("high", "clock", "The clock leapt; appends wait"),
    "clock_steady": EventKind("low", "clock", "The clock is right again"),
    "quota_nearly_used": EventKind("low", "quota", "80 % of a day's quota was used"),
    "quota_used_up": EventKind("medium", "quota", "A day's quota was used"),
    "key_address_refused": EventKind(
        "high", "keys", "An API key was used from an address that is none of its own"
    ),
    "address_blocked": EventKind("high", "blocks", "Requests from an address are refused"),
    "key_expires": EventKind("medium", "keys", "An API key expires soon"),
    "key_never_expires": EventKind("low", "keys", "An API key has no end"),
    "platform_key_rotated": EventKind("medium", "keys", "The platform key was replaced"),
    "platform_key_revoked": EventKind("medium", "keys", "A platform key was revoked"),
    "blocked": EventKind("medium", "gateway", "A query was blocked"),
    "injection_detected": EventKind("high", "gateway", "A query tries to inject instructions"),
    "sanitized": EventKind("low", "gateway", "An output was sanitized"),
    "rate_limit_exceeded": EventKind("low", "limits", "Requests were refused for their rate"),
    "authentication_refused": EventKind(
        "low", "authentication", "Requests without a valid API key were refused"
    ),
    "cross_tenant_refused": EventKind(
        "medium", "authentication", "An API key asked for an org that is not its own"
    ),
    "blocked_address_refused": EventKind(
        "low", "blocks", "Requests from a blocked address were refused"
    ),
    "body_too_large": EventKind(
        "low", "bodies", "Request bodies were larger than their route takes"
    ),
    "body_malformed": EventKind("low", "bodies", "Request bodies could not be read"),
    "traffic_anomaly": EventKind(
        "high", "traffic", "Far more requests, refusals or failures than usual"
    ),
    "traffic_growth": EventKind(
        "medium", "traffic", "A day has far more requests, refusals or failures than its like"
    ),
    "threat.level_high": EventKind("high", "threats", "A threat score reached the alert level"),
}
OTHER: Final = EventKind("medium", "other", "Another event")


def kind_of(name: str) -> EventKind:
    """Return what is known of a kind; for a name that is not listed, :data:`OTHER`."""
    return EVENT_KINDS.get(name, OTHER)
