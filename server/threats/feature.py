"""Threat scores and levels, and odd traffic."""

from typing import Final

from server.feature import Feature

FEATURE: Final = Feature(
    name="threats",
    tags={"Threats": "How requests behave: threat scores, levels, odd traffic."},
    administrative=True,
)
