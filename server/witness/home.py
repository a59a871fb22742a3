"""The directory of a witness: its keys, its list of logs, and the newest checkpoint of each."""

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
from server.keys.key_files import restore_command
from server.refusal import StartupRefused
from server.settings.data_dir import make_data_dir
from server.witness.heads import WitnessHeads

SEED_BYTES: Final = 32
KEYS_MAX: Final = 8
_LOGS_START: Final = """\
# The logs that this witness cosigns, one line each, in the form of C2SP tlog-policy:
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
        """The list of logs, a tlog-policy file."""
        return self.directory / "logs.policy"

    @property
    def heads(self) -> Path:
        """The newest checkpoint of each log (SQLite)."""
        return self.directory / "heads.db"


def create(directory: Path, name: str) -> tuple[Signer, ...]:
    """Create a witness of this name with an Ed25519 and an ML-DSA-44 key, and no log yet.

    Raises StartupRefused if the directory has a witness, or for a name that a key can't have.
    """
    _require_ascii(name)
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
    if home.keys.exists():
        raise StartupRefused(f"{home.directory} holds a witness already; nothing was changed.")
    # The keys are written last: a crash before that leaves no witness, and init can run again.
    # A directory with keys never gets a new state file.
    _once(home.heads, lambda: WitnessHeads.create(home.heads))
    _once(home.logs, lambda: create_private_file(home.logs, _LOGS_START.encode()))
    create_private_file(home.keys, "".join(f"{signer.skey()}\n" for signer in signers).encode())
    return signers


def load_keys(home: WitnessDirectory) -> tuple[Signer, ...]:
    """Return the witness's private keys. Raises StartupRefused."""
    content = read_private_file(home.keys)
    if content is None:
        raise StartupRefused(_lost_keys(home))
    try:
        signers = tuple(
            parse_skey(line) for line in content.decode("ascii", "replace").splitlines()
        )
    except NoteError as error:
        raise StartupRefused(f"{home.keys}: {error}") from None
    if not 1 <= len(signers) <= KEYS_MAX or any(key.kind not in _COSIGNERS for key in signers):
        raise StartupRefused(f"{home.keys} must hold 1 to {KEYS_MAX} cosigning keys.")
    return signers


def load_logs(home: WitnessDirectory) -> Policy:
    """Return the logs that the witness cosigns. Raises StartupRefused."""
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
                f'{home.logs}: the origin "{log.verifier.name}" is longer than the '
                f"{ORIGIN_BYTES_MAX} bytes that a cosignature can name."
            )
    return policy


def _lost_keys(home: WitnessDirectory) -> str:
    """Return the message for a directory without keys: nothing was made there, or they were lost."""
    if not home.heads.exists():
        return f"There is no witness in {home.directory}. Create one with: quire witness init NAME"
    return (
        f"The witness's keys are missing: {home.keys} does not exist, but {home.heads} is the state "
        "of a witness. The logs that it watched would not accept cosignatures of a new key. Restore "
        f"the file from your backup: {restore_command(home.keys)}\n"
        "If it never served because `quire witness init` was interrupted, run that command again."
    )


def _require_ascii(name: str) -> None:
    """Refuse a name that logs and key files can't carry. Raises StartupRefused."""
    if not name.isascii():
        raise StartupRefused(
            f'The name "{name}" has characters that are not ASCII. Use a URL without '
            "scheme, such as witness.example/w1; write a host name of other letters in its xn-- "
            "form."
        )


def _once(path: Path, make: Callable[[], None]) -> None:
    """Create a file unless an earlier attempt did."""
    if not path.exists():
        make()
