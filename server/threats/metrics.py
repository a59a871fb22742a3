"""Metrics of threats: what was noted, written, judged and found odd."""

from typing import Final

from prometheus_client import Counter, Histogram

from server.metrics import REGISTRY

OCCURRENCES: Final = Counter(
    "quire_security_occurrences",
    "Refused requests, bodies that can't be read, and what engines block, by the kind of event",
    ["kind"],
    registry=REGISTRY,
)
EVENTS: Final = Counter(
    "quire_security_events",
    "Security events written about the behaviour of callers, by kind",
    ["kind"],
    registry=REGISTRY,
)
ODDITY: Final = Histogram(
    "quire_traffic_oddity",
    "How far a minute's count is from its usual range, in robust deviations, where there are enough "
    "requests to judge",
    ["count"],
    buckets=(1, 2, 3, 4, 5, 6, 8, 10, 15, 25, 50, 100),
    registry=REGISTRY,
)
JUDGED: Final = Counter(
    "quire_traffic_judged",
    "Minutes of orgs, keys and addresses that had enough requests to be judged",
    registry=REGISTRY,
)
