"""QWED's audit log: its routes in the shapes of QWED 8.0.0, computed from the trail."""

from typing import Final

from server.feature import Feature

FEATURE: Final = Feature(
    name="qwed",
    routes=("server.qwed.routes:router",),
    tags={"QWED": "QWED's audit log, in the shapes of QWED 8.0.0, computed from the trail."},
)
