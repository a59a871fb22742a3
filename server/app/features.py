"""The domains of this server, in the order of the command line's help."""

from __future__ import annotations

from typing import Final

from server.access.feature import FEATURE as ACCESS
from server.feature import Feature
from server.http.feature import FEATURE as OPERATIONS
from server.oversight.feature import FEATURE as OVERSIGHT
from server.qwed.feature import FEATURE as QWED
from server.settings.feature import FEATURE as SERVER
from server.threats.blocks.feature import FEATURE as BLOCKS
from server.threats.feature import FEATURE as THREATS
from server.trails.feature import FEATURE as TRAILS
from server.witness.feature import FEATURE as WITNESS

FEATURES: Final[tuple[Feature, ...]] = (
    SERVER,
    ACCESS,
    TRAILS,
    OVERSIGHT,
    THREATS,
    BLOCKS,
    QWED,
    WITNESS,
    OPERATIONS,
)
