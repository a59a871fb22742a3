"""The witness: a separate program that cosigns the logs of others."""

from typing import Final

from server.feature import Command, Feature

FEATURE: Final = Feature(
    name="witness",
    commands={
        "witness": Command(
            "server.cli.operations.witness:witness", "Watch other people's logs and cosign them."
        ),
    },
)
