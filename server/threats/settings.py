"""The settings of threats."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class ThreatSettings:
    """How often security events about callers are written."""

    security_event_seconds: Annotated[
        float,
        Meta(
            ge=0.5,
            le=3_600,
            description="Seconds between two looks at what callers were refused for",
        ),
    ] = 3.0
