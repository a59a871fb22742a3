"""Security events, their acknowledgement, and reviews of the trail."""

from typing import Final

from server.feature import Feature
from server.oversight.entry_kinds import ENTRY_KINDS

FEATURE: Final = Feature(
    name="oversight",
    routes=("server.oversight.routes:router",),
    tags={"Oversight": "Security events, and statements that the trail was reviewed."},
    administrative=True,
    entry_kinds=ENTRY_KINDS,
)
