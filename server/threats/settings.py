"""The settings of threats."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class ThreatSettings:
    """How often callers are looked at, and what of their traffic is odd."""

    security_event_seconds: Annotated[
        float,
        Meta(
            ge=0.5,
            le=3_600,
            description="Seconds between two looks at what callers were refused for",
        ),
    ] = 3.0
    traffic_seconds: Annotated[
        float,
        Meta(ge=5, le=3_600, description="Seconds between two looks for odd traffic"),
    ] = 20.0
    anomaly_deviations: Annotated[
        float,
        Meta(
            ge=3,
            le=1_000,
            description="Robust deviations above the usual from which traffic is odd",
        ),
    ] = 6.0
    anomaly_events: Annotated[
        int,
        Meta(
            ge=10,
            le=1_000_000,
            description="Requests, refusals or failures a minute from which traffic can be odd",
        ),
    ] = 30
    traffic_subjects: Annotated[
        int,
        Meta(
            ge=100,
            le=1_000_000,
            description="API keys and addresses whose traffic is remembered, of one org a fifth at most",
        ),
    ] = 10_000
