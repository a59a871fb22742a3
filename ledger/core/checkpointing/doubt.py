"""Why a tree is not signed."""

from __future__ import annotations

from typing import NamedTuple


class Doubt(NamedTuple):
    """What stops the signing of one org: a kind, which stays the same, and a reason for people."""

    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"
