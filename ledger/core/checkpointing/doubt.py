"""Why a tree is not signed."""

from __future__ import annotations

from typing import Final, NamedTuple

UNKNOWN_KEY: Final = "unknown_key"
"""The kind of doubt whose cause may be this machine's keyring rather than the trail."""
NOT_FROZEN: Final = " (not frozen yet)"
"""Follows the kind of doubt of a stopped tree whose org could not be frozen, as its head was locked."""


class SigningDoubt(NamedTuple):
    """The reason why a tree is not signed: a stable kind, and a sentence for people."""

    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"
