"""Health, metrics and the API description of the server itself."""

from typing import Final

from server.feature import Command, Feature

FEATURE: Final = Feature(
    name="operations",
    routes=("server.http.routes.operations:router",),
    tags={"Operations": "For operators and their machines; no key is needed."},
    administrative=True,
    commands={
        "bench": Command("server.cli.operations.bench:bench", "Measure speed (in a checkout)."),
    },
    metrics=("server.metrics",),
)
