"""The directory of a witness: its keys, the logs it knows, and where each of them stands."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.checkpoint import ORIGIN_BYTES_MAX
from ledger.errors import NoteError, TrustPolicyError
from ledger.note import (
    CosignatureSigner,
    MlDsaSigner,
    SignatureType,
    Signer,
    parse_skey,
)
from ledger.policy import POLICY_BYTES_MAX, Policy, parse_policy
from server.keys.first_start import create_private_file, read_private_file
from server.refusal import StartupRefused
from server.settings.data_dir import make_data_dir
from server.witness.heads import WitnessHeads

SEED_BYTES: Final = 32
KEYS_MAX: Final = 8
_LOGS_START: Final = """\
# The logs that this witness knows, one line each, in the form of C2SP tlog-policy:
#   log VKEY
# A log with several keys has several lines. The witness reads this file when it starts.

quorum none
"""
_COSIGNERS: Final = {SignatureType.ED25519_COSIGNATURE, SignatureType.ML_DSA_44_COSIGNATURE}


@dataclass(frozen=True, slots=True)
class WitnessDirectory:
    """Paths of a witness's directory."""

    directory: Path

    @property
    def keys(self) -> Path:
        """The private keys, one a line; mode 0600."""
        return self.directory / "witness.keys"

    @property
    def logs(self) -> Path:
        """The logs that are known, a tlog-policy file."""
        return self.directory / "logs.policy"

    @property
    def heads(self) -> Path:
        """The newest checkpoint of each log (SQLite)."""
        return self.directory / "heads.db"


def create(directory: Path, name: str) -> tuple[Signer, ...]:
    """Make a witness of this name: an Ed25519 and an ML-DSA-44 key, and no log yet.

    Raises StartupRefused where one exists, or for a name that no key can have.
    """
    home = WitnessDirectory(make_data_dir(directory))
    try:
        signers = (
            MlDsaSigner.from_seed(name, secrets.token_bytes(SEED_BYTES)),
            CosignatureSigner.from_seed(name, secrets.token_bytes(SEED_BYTES)),
        )
    except NoteError as error:
        raise StartupRefused(
            f"{error}. A name is a URL without scheme: witness.example/w1"
        ) from None
    # The keys come last: a directory with keys is a whole witness, and makes no new memory.
    if home.keys.exists():
        raise StartupRefused(f"{home.directory} holds a witness already; it stays as it is.")
    _once(home.heads, lambda: WitnessHeads.create(home.heads))
    _once(home.logs, lambda: create_private_file(home.logs, _LOGS_START.encode()))
    create_private_file(home.keys, "".join(f"{signer.skey()}\n" for signer in signers).encode())
    return signers


def load_keys(home: WitnessDirectory) -> tuple[Signer, ...]:
    """The witness's private keys. Raises StartupRefused."""
    content = read_private_file(home.keys)
    if content is None:
        raise StartupRefused(
            f"There is no witness in {home.directory}. Make one with: quire witness init NAME"
        )
    try:
        signers = tuple(
            parse_skey(line) for line in content.decode("ascii", "replace").splitlines()
        )
    except NoteError as error:
        raise StartupRefused(f"{home.keys}: {error}") from None
    if not 1 <= len(signers) <= KEYS_MAX or any(one.kind not in _COSIGNERS for one in signers):
        raise StartupRefused(f"{home.keys} must hold 1 to {KEYS_MAX} cosigning keys.")
    return signers


def load_logs(home: WitnessDirectory) -> Policy:
    """The logs that the witness knows. Raises StartupRefused."""
    try:
        with home.logs.open("rb") as file:
            policy = parse_policy(file.read(POLICY_BYTES_MAX + 1))
    except OSError as error:
        raise StartupRefused(f"{home.logs} cannot be read: {error.strerror}.") from error
    except TrustPolicyError as error:
        raise StartupRefused(f"{home.logs}: {error}") from error
    for log in policy.logs:
        if len(log.verifier.name.encode()) > ORIGIN_BYTES_MAX:
            raise StartupRefused(
                f"{home.logs}: the origin {log.verifier.name!r} is longer than the "
                f"{ORIGIN_BYTES_MAX} bytes that a cosignature can name."
            )
    return policy


def _once(path: Path, make: Callable[[], None]) -> None:
    """Make a file unless an earlier attempt has."""
    if not path.exists():
        make()
