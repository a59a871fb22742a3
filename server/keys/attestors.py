"""The timestamp authority and the witnesses that the settings name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ledger.core.attesting.errors import AttestationError
from ledger.core.attesting.timestamping import Tsa
from ledger.core.attesting.witnessing import WitnessClient, witnesses_of
from ledger.errors import TimestampError, TrustPolicyError
from ledger.policy import NO_QUORUM, POLICY_BYTES_MAX, Policy, parse_policy
from ledger.timestamp import check_trust
from server.refusal import StartupRefused
from server.settings import Settings

NO_POLICY = Policy((), (), (), NO_QUORUM)


@dataclass(frozen=True, slots=True)
class Attestors:
    """The authority and witnesses that attest anchors; a context that closes their connections.

    ``tsa_ca`` is None where no timestamp can be verified. One object serves one event loop.
    """

    tsa: Tsa | None
    tsa_ca: bytes | None
    policy: Policy
    witnesses: tuple[WitnessClient, ...]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for peer in (self.tsa, *self.witnesses):
            if peer is not None:
                await peer.close()


def attestors(settings: Settings) -> Attestors:
    """Return the attestors that the settings name. Raises StartupRefused if one can't be used."""
    tsa_ca = timestamp_trust(settings)
    policy = witness_policy(settings)
    try:
        tsa = None
        if settings.tsa_url is not None and tsa_ca is not None:
            tsa = Tsa(settings.tsa_url, tsa_ca, settings.tsa_policy)
        return Attestors(tsa, tsa_ca, policy, tuple(witnesses_of(policy)))
    except AttestationError as error:
        raise StartupRefused(f"QUIRE_TSA_URL or QUIRE_WITNESS_POLICY: {error}") from error


def timestamp_trust(settings: Settings) -> bytes | None:
    """Return the PEM of the CA certificates for timestamps. Raises StartupRefused."""
    if settings.tsa_ca is None:
        return None
    pem = _content(settings.tsa_ca, "QUIRE_TSA_CA")
    try:
        check_trust(pem, settings.tsa_policy)
    except TimestampError as error:
        raise StartupRefused(f"QUIRE_TSA_CA ({settings.tsa_ca}): {error}") from error
    return pem


def witness_policy(settings: Settings) -> Policy:
    """Return the witness policy of the settings, NO_POLICY if none. Raises StartupRefused."""
    if settings.witness_policy is None:
        return NO_POLICY
    try:
        return parse_policy(_content(settings.witness_policy, "QUIRE_WITNESS_POLICY"))
    except TrustPolicyError as error:
        raise StartupRefused(
            f"QUIRE_WITNESS_POLICY ({settings.witness_policy}): {error}"
        ) from error


def witnesses_asked(settings: Settings) -> Policy | None:
    """Return the policy of the settings if it requires cosignatures and can be read, else None.

    Only the signer reports a policy that can't be read.
    """
    try:
        policy = witness_policy(settings)
    except StartupRefused:
        return None
    return None if policy.quorum == NO_QUORUM else policy


def _content(path: Path, setting: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(POLICY_BYTES_MAX + 1)
    except OSError as error:
        raise StartupRefused(f"{setting}: {path} cannot be read: {error.strerror}.") from error
