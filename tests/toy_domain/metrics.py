"""The metrics of the toys."""

from typing import Final

from prometheus_client import Counter

from server.metrics import REGISTRY

TURNS: Final = Counter("quire_toy_turns", "Turns by which toys were wound", registry=REGISTRY)
