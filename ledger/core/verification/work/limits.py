"""How long an entry may wait for a signature, an anchor, a timestamp, before that is missed."""

from __future__ import annotations

from typing import Final, NamedTuple

SIGNING_LIMIT_S: Final = 300.0


class SigningLimits(NamedTuple):
    """Seconds from the writing of an entry on.

    ``signing_s``: until a checkpoint covers it. ``anchoring_s``: until an anchor covers
    that checkpoint, and witnesses cosigned the anchor. ``stamping_s``: until an authority
    stamped it. What is missing longer leaves a verdict incomplete.
    """

    signing_s: float = SIGNING_LIMIT_S
    anchoring_s: float = SIGNING_LIMIT_S
    stamping_s: float = SIGNING_LIMIT_S

    def of(self, check: str) -> float:
        """The limit of what a check is about."""
        return {
            "tree": self.signing_s,
            "checkpoints": self.signing_s,
            "classical_signature": self.signing_s,
            "external_time": self.stamping_s,
        }.get(check, self.anchoring_s)
