"""The trust that a verifier was given, and the checks that it requires."""

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
    """Explicit trust; without ``pins`` the bundle's own keys are used.

    ``policy`` names witnesses (and logs), ``tsa_ca`` is the PEM of the certificates of
    time-stamping authorities. ``history`` is a whole trusted key history, for logs that have
    none; ``pins`` then pin its keys.
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
