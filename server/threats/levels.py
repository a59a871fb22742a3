"""The threat level of a period, by how many events it has."""

from __future__ import annotations

from typing import Final, Literal

ThreatLevel = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
PERIOD_HOURS: Final = 24
_ABOVE: Final[tuple[tuple[ThreatLevel, int, int], ...]] = (
    ("CRITICAL", 10, 50),
    ("HIGH", 5, 20),
    ("MEDIUM", 0, 5),
)
"""A level, and the numbers of serious events and of BLOCKED ones of which one must be exceeded."""


def threat_level(serious: int, blocked: int) -> ThreatLevel:
    """Return the level of a period.

    ``serious`` counts its events of the severity high or critical, ``blocked`` those of the type
    BLOCKED.
    """
    for level, most_serious, most_blocked in _ABOVE:
        if serious > most_serious or blocked > most_blocked:
            return level
    return "LOW"
