"""Why a tree is not signed."""

from __future__ import annotations

from typing import Final, NamedTuple

UNKNOWN_KEY: Final = "unknown_key"
"""The kind of doubt that says more of this machine's keyring than of the trail."""


class SigningDoubt(NamedTuple):
    """What stops the signing of one org: a kind, which stays the same, and a reason for people."""

    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"
