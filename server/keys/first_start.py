"""Reads the keys of the server, or makes them on the very first start of an embedded database.

Keys are made only where nothing can depend on them yet. A key that is missing later has to be
restored from a backup: a new key would make the whole history unverifiable, or sealed payloads
unreadable, so the server refuses to start instead.
"""

import base64
import binascii
import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ledger.core.clock import wall_us
from ledger.errors import QuireError
from ledger.keys import SigningKey, SigningKeyring, dump_keyring, parse_keyring
from ledger.log_keys import KeySeeds, LogKeys, dump_log_keys, generate, parse_log_keys
from server.keys.key_files import (
    SecretsError,
    create_private_file,
    read_private_file,
    restore_command,
)
from server.settings import Settings
from server.settings.data_dir import make_data_dir

__all__ = [
    "SecretsError",
    "ServerSecrets",
    "create_private_file",
    "load_log_keys",
    "load_master_key",
    "load_secrets",
    "present_keyring",
    "present_master_key",
    "read_log_keys",
    "read_private_file",
]

MASTER_KEY_BYTES = 32
_LOST = {
    "master key": (
        "Without it no API key is recognised and no sealed payload can be opened; entries, "
        "signatures, proofs and the archive are intact."
    ),
    "signing key": (
        "Without it no entry can be signed and no entry's signature checked; hashes, signed "
        "trees, proofs, bundles and the archive are intact."
    ),
}
_MAKE_ONE = 'python3 -c "import secrets; print(secrets.token_hex(32))"'
_HOW_TO_MAKE = f"Make one with: {_MAKE_ONE}"


@dataclass(frozen=True, slots=True)
class ServerSecrets:
    """The keys a server needs; the master key is 32 bytes."""

    keyring: SigningKeyring = field(repr=False)
    master_key: bytes = field(repr=False)


def load_secrets(settings: Settings, *, database_is_new: bool) -> ServerSecrets:
    """Read the keys; make them where the database is embedded and new.

    `database_is_new`: nothing in the database depends on a key, that is, it holds no org. So
    after a crash between making the database and making the keys, the next start makes them.
    Raises SecretsError. The caller holds the DataDirLock; without it two starts still agree on
    one key, because a key file is never replaced.
    """
    may_make = settings.embedded and database_is_new
    if may_make:
        make_data_dir(settings.data_dir)
    return ServerSecrets(_keyring(settings, may_make), _master_key(settings, may_make))


def load_log_keys(
    settings: Settings, *, log_is_new: bool, clock: Callable[[], int] = wall_us
) -> LogKeys:
    """Return the log keys, for the signer alone; make them where no log depends on a key yet.

    `clock` returns the time in µs that a new key keeps; it may raise ClockUnsteady.

    `log_is_new`: nothing was ever signed and no key was ever published. This holds once in the
    life of a database, even an external one, so the caller holds the signer's lock. Raises
    SecretsError.
    """
    keys = read_log_keys(settings)
    path = settings.log_keys_path
    if keys is None and log_is_new:
        if settings.log_keys is None:
            make_data_dir(settings.data_dir)
        origin = settings.log_origin or f"quire.local/{secrets.token_hex(4)}"
        made = generate(origin, new_log_seeds(), clock())
        with _naming(path):
            keys = parse_log_keys(_make(path, dump_log_keys(made)))
        _check_origin(settings, keys)
    if keys is None:
        raise SecretsError(
            f"The log keys are missing: {path} does not exist and QUIRE_LOG_SIGNING_KEYS is not "
            "set, but this database's logs were signed before. Until the keys are back, no "
            "checkpoint, anchor or bundle of new entries is signed. Reads and everything signed so far "
            "work, and appends until entries were unsigned for QUIRE_UNSIGNED_LIMIT_SECONDS. "
            "Verifiers would not recognise a new key. Restore the file from your backup, or copy it "
            "from the server that signed: "
            f"{restore_command(path)}"
        )
    return keys


def read_log_keys(settings: Settings) -> LogKeys | None:
    """Return the log keys, None where there is no file yet. Raises SecretsError."""
    if settings.log_signing_keys is not None:
        source: Path | str = "QUIRE_LOG_SIGNING_KEYS"
        content: bytes | None = settings.log_signing_keys.encode("utf-8", "surrogateescape")
    else:
        source = settings.log_keys_path
        content = read_private_file(settings.log_keys_path)
    if content is None:
        return None
    with _naming(source):
        keys = parse_log_keys(content)
    _check_origin(settings, keys)
    return keys


def new_log_seeds() -> KeySeeds:
    """Return random seeds for a new log key."""
    return KeySeeds(secrets.token_bytes(32), secrets.token_bytes(32))


def _check_origin(settings: Settings, keys: LogKeys) -> None:
    if settings.log_origin not in {None, keys.origin}:
        raise SecretsError(
            f'QUIRE_LOG_ORIGIN is "{settings.log_origin}", but the log keys are those of '
            f'"{keys.origin}". The name of a log can\'t be changed: remove the setting.'
        )


def present_keyring(settings: Settings) -> SigningKeyring | None:
    """Return the keys of the keyring file and of the environment; None where there is neither.

    Where both exist, the file's active key signs, and the other key still verifies the entries
    that it signed before the rotation. Raises SecretsError.
    """
    path = settings.signing_keyring_path
    content = read_private_file(path)
    rings = []
    if content is not None:
        with _naming(path):
            rings.append(parse_keyring(content))
    if settings.audit_secret_key is not None:
        with _naming("QUIRE_AUDIT_SECRET_KEY"):
            secret = settings.audit_secret_key.encode("utf-8", "surrogateescape")
            rings.append(SigningKeyring.from_secret(secret))
            return rings[0].with_key(rings[-1].active)
    return rings[0] if rings else None


def _keyring(settings: Settings, may_make: bool) -> SigningKeyring:
    ring = present_keyring(settings)
    path = settings.signing_keyring_path
    if ring is None:
        if may_make and settings.signing_keyring is not None:
            raise SecretsError(
                f"QUIRE_SIGNING_KEYRING names {path}, which does not exist. Correct the setting, or "
                "leave it out: the first start then makes signing-keys.json in the data directory."
            )
        if not may_make:
            raise _missing(settings, "signing key", path, "QUIRE_AUDIT_SECRET_KEY")
        with _naming(path):
            ring = parse_keyring(_make(path, dump_keyring(_new_keyring())))
    return ring


@contextlib.contextmanager
def _naming(source: Path | str) -> Iterator[None]:
    """Add the name of the setting or file to an error of the key formats."""
    try:
        yield
    except QuireError as error:
        advice = (
            f". If the file is damaged, restore it from your backup: {restore_command(source)}"
            if isinstance(source, Path)
            else ""
        )
        raise SecretsError(f"{source}: {error}{advice}") from error


def _new_keyring() -> SigningKeyring:
    key = SigningKey(f"k-{secrets.token_hex(6)}", secrets.token_bytes(32))
    return SigningKeyring([key], [key.key_id])


def load_master_key(settings: Settings) -> bytes:
    """Return the master key, which must exist. Raises SecretsError."""
    return _master_key(settings, may_make=False)


def present_master_key(settings: Settings) -> bytes | None:
    """Return the master key, None where there is none. Raises SecretsError."""
    if settings.master_key is not None:
        return _parse_master_key(settings.master_key, "QUIRE_MASTER_KEY", f" {_HOW_TO_MAKE}")
    path = settings.master_key_path
    content = read_private_file(path)
    return None if content is None else _master_key_in(content, path)


def _master_key(settings: Settings, may_make: bool) -> bytes:
    key = present_master_key(settings)
    path = settings.master_key_path
    if key is None and may_make:
        key = _master_key_in(_make(path, f"{secrets.token_hex(MASTER_KEY_BYTES)}\n".encode()), path)
    if key is None:
        raise _missing(settings, "master key", path, "QUIRE_MASTER_KEY")
    return key


def _master_key_in(content: bytes, path: Path) -> bytes:
    advice = f" If the file is damaged, restore it from your backup: {restore_command(path)}"
    return _parse_master_key(content.decode("ascii", "replace"), str(path), advice)


def _parse_master_key(text: str, source: str, advice: str) -> bytes:
    text = text.strip()
    with contextlib.suppress(ValueError):
        key = bytes.fromhex(text)
        if len(key) == MASTER_KEY_BYTES:
            return key
    with contextlib.suppress(binascii.Error, ValueError):
        key = base64.b64decode(
            text, altchars=b"-_" if set(text) & set("-_") else None, validate=True
        )
        if len(key) == MASTER_KEY_BYTES:
            return key
    raise SecretsError(
        f"{source} must be {MASTER_KEY_BYTES} bytes as hex (64 characters) or base64 "
        f"(44 characters).{advice}"
    )


def _make(path: Path, content: bytes) -> bytes:
    try:
        create_private_file(path, content)
    except FileExistsError:
        found = read_private_file(path)  # another start made it in the meantime
        if found is not None:
            return found
        raise
    except OSError as error:
        raise SecretsError(f"The key file {path} cannot be written: {error.strerror}.") from error
    return content


def _missing(settings: Settings, key: str, path: Path, setting: str) -> SecretsError:
    if settings.embedded:
        return SecretsError(
            f"The {key} is missing: {path} does not exist and {setting} is not set, but the "
            f"database was made with one. {_LOST[key]} A new key would not fit the stored data. "
            f"Restore it from your backup: {restore_command(path)}"
        )
    return SecretsError(
        f"The {key} is missing: set {setting}, or store it in {path}. "
        f"Make a good one with: {_MAKE_ONE}\n"
        f"If the database already holds orgs, use the key that they were made with. {_LOST[key]}"
    )
