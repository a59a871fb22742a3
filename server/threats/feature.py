"""Threat scores and levels, and odd traffic."""

from typing import Final

from server.feature import Feature
from server.threats.settings import ThreatSettings

FEATURE: Final = Feature(
    name="threats",
    routes=("server.threats.routes:OWN", "server.threats.routes:AS_QWED"),
    tags={"Threats": "How callers behave: threat scores and the level of an org."},
    administrative=True,
    settings=(ThreatSettings,),
    tasks=(
        "server.threats.tasks:write_events",
        "server.threats.tasks:forget_old",
        "server.threats.tasks:watch_traffic",
    ),
    metrics=("server.threats.metrics",),
)
