"""The threat score of a security event, 0 to 100, weighed exactly as QWED weighs it.

The score is a sum of parts, each with its reason, so that a reader sees where it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

BLOCKED: Final = "BLOCKED"
WEIGHTS: Final[Mapping[str, int]] = {
    BLOCKED: 30,
    "INJECTION_DETECTED": 50,
    "SANITIZED": 10,
    "RATE_LIMIT_EXCEEDED": 20,
}
"""Points of QWED's types of events; other types have none."""
PATTERNS: Final = (
    "base64",
    "encoding",
    "system prompt",
    "jailbreak",
    "override",
    "bypass",
    "injection",
)
"""What is looked for in the reason of an event, whatever the case of its letters."""
PATTERN_POINTS: Final = 5
MAX_PATTERN_POINTS: Final = 20
MANY_BLOCKED: Final = 10
"""More events of the type BLOCKED than this, within :data:`RECENT_MINUTES`, are a part of the score."""
RECENT_MINUTES: Final = 10
MANY_BLOCKED_POINTS: Final = 30
BLOCKED_ADDRESS_POINTS: Final = 20
LONG_QUERY_CHARS: Final = 1_500
LONG_QUERY_POINTS: Final = 10
MAX_SCORE: Final = 100
ALERT_SCORE: Final = 75
"""From this score on an event is an anomaly, and an alert is due."""
ANOMALY_BLOCKED: Final = 100
"""More recent events of the type BLOCKED than this are an anomaly, whatever the score."""


class Weighed(NamedTuple):
    """An event as it is weighed: QWED's type, why, the length of the query, BLOCKED events before it."""

    event_type: str
    reason: str | None = None
    query_chars: int = 0
    address_is_blocked: bool = False
    recent_blocked: int = 0


class ThreatScore(NamedTuple):
    """The score of an event. ``parts`` has the points of each part that has any.

    The parts may sum up to more than the score, which ends at 100.
    """

    parts: Mapping[str, int]
    patterns: int
    recent_blocked: int

    @property
    def points(self) -> int:
        """The sum of the parts, which may exceed 100."""
        return sum(self.parts.values())

    @property
    def score(self) -> int:
        """The score, 0 to 100."""
        return min(self.points, MAX_SCORE)

    @property
    def should_alert(self) -> bool:
        """Whether an alert is due."""
        return self.points >= ALERT_SCORE

    @property
    def is_anomaly(self) -> bool:
        """Whether the event counts as an anomaly."""
        return self.should_alert or self.recent_blocked > ANOMALY_BLOCKED

    def details(self) -> dict[str, int | bool]:
        """Return what was found, under QWED's names."""
        found: dict[str, int | bool] = {}
        if "many_blocked" in self.parts:
            found["consecutive_failures"] = self.recent_blocked
        if self.patterns:
            found["dangerous_patterns_found"] = self.patterns
        if "blocked_address" in self.parts:
            found["blacklisted_ip"] = True
        if "long_query" in self.parts:
            found["long_query"] = True
        return found


def weigh(event: Weighed) -> ThreatScore:
    """Return the score of an event with its parts."""
    patterns = patterns_in(event.reason)
    points = {
        "event": WEIGHTS.get(event.event_type, 0),
        "many_blocked": MANY_BLOCKED_POINTS * (event.recent_blocked > MANY_BLOCKED),
        "patterns": min(patterns * PATTERN_POINTS, MAX_PATTERN_POINTS),
        "blocked_address": BLOCKED_ADDRESS_POINTS * event.address_is_blocked,
        "long_query": LONG_QUERY_POINTS * (event.query_chars > LONG_QUERY_CHARS),
    }
    parts = {name: value for name, value in points.items() if value}
    return ThreatScore(parts, patterns, event.recent_blocked)


def patterns_in(reason: str | None) -> int:
    """Return how many of the patterns a reason has, each counted once."""
    text = (reason or "").lower()
    return sum(pattern in text for pattern in PATTERNS)
