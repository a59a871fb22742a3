"""What a verifier was told to trust, and what it therefore must check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ledger.log_keys import KeyPins, LogKeyHistory
    from ledger.policy import Policy

_ALWAYS: Final = frozenset(
    {
        "hashes",
        "payloads",
        "tree",
        "checkpoints",
        "anchors",
        "classical_signature",
        "pq_signature",
        "keys",
    }
)


@dataclass(frozen=True, slots=True)
class Trust:
    """Explicit trust; without ``pins`` the keys are the bundle's own.

    ``policy`` names witnesses (and logs), ``tsa_ca`` is the PEM of the certificates
    of time-stamping authorities. ``history`` is a whole key history that was trusted,
    for logs that bring none; ``pins`` are then those of its keys.
    """

    pins: KeyPins | None = None
    policy: Policy | None = None
    tsa_ca: bytes | None = None
    history: LogKeyHistory | None = None

    @property
    def asked(self) -> frozenset[str]:
        """The checks without which a verdict is incomplete."""
        asked = set(_ALWAYS)
        if self.policy is not None:
            asked.add("witnesses")
        if self.tsa_ca is not None:
            asked.add("external_time")
        return frozenset(asked)
