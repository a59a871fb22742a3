"""The keys of the server: read, or made on the very first start of an embedded database.

Keys are made only where nothing can depend on them yet. A key that is missing later is a loss to
be repaired from a backup: a new one would make the whole history unverifiable, or sealed payloads
unreadable, so the server refuses to start instead.
"""

import base64
import binascii
import contextlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ledger.errors import QuireError
from ledger.keys import SigningKey, SigningKeyring, dump_keyring, parse_keyring
from ledger.log_keys import KeySeeds, LogKeys, dump_log_keys, generate, parse_log_keys
from server.data_dir import make_data_dir, sync_directory
from server.refusal import StartupRefused
from server.settings import Settings

MASTER_KEY_BYTES = 32
_KEY_FILE_BYTES_MAX = 1 << 20
_MAKE_ONE = 'python3 -c "import secrets; print(secrets.token_hex(32))"'


class SecretsError(StartupRefused):
    """A key is missing, malformed, or readable by others."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The keys a server needs; the master key is 32 bytes."""

    keyring: SigningKeyring = field(repr=False)
    master_key: bytes = field(repr=False)


def load_secrets(settings: Settings, *, database_is_new: bool) -> Secrets:
    """Read the keys; make them where the database is embedded and new.

    `database_is_new`: nothing in the database depends on a key, that is, it holds no org. A crash
    between making the database and making the keys is thereby repaired by the next start.
    Raises SecretsError. The caller holds the DataDirLock; without it two starts still agree on
    one key, because a key file is never replaced.
    """
    may_make = settings.embedded and database_is_new
    if may_make:
        make_data_dir(settings.data_dir)
    return Secrets(_keyring(settings, may_make), _master_key(settings, may_make))


def load_log_keys(settings: Settings, *, log_is_new: bool) -> LogKeys:
    """The keys of the logs, for the signer alone: read, or made where no log depends on one yet.

    `log_is_new`: nothing was ever signed and no key was ever published. That is so once in a
    database's life, an external one's too, so the caller holds the signer's lock. Raises
    SecretsError.
    """
    keys = read_log_keys(settings)
    path = settings.log_keys_path
    if keys is None and log_is_new:
        if settings.log_keys is None:
            make_data_dir(settings.data_dir)
        origin = settings.log_origin or f"quire.local/{secrets.token_hex(4)}"
        made = generate(origin, new_log_seeds(), time.time_ns() // 1000)
        with _naming(str(path)):
            keys = parse_log_keys(_make(path, dump_log_keys(made)))
        _check_origin(settings, keys)
    if keys is None:
        raise SecretsError(
            f"The log keys are missing: {path} does not exist and QUIRE_LOG_SIGNING_KEYS is not "
            "set, but this database's logs were signed with some. Restore the file from your "
            "backup, or copy it from the server that signed; a new key would be nobody's."
        )
    return keys


def read_log_keys(settings: Settings) -> LogKeys | None:
    """The keys of the logs, or None where there is no file yet. Raises SecretsError."""
    if settings.log_signing_keys is not None:
        source = "QUIRE_LOG_SIGNING_KEYS"
        content: bytes | None = settings.log_signing_keys.encode("utf-8", "surrogateescape")
    else:
        source = str(settings.log_keys_path)
        content = read_private_file(settings.log_keys_path)
    if content is None:
        return None
    with _naming(source):
        keys = parse_log_keys(content)
    _check_origin(settings, keys)
    return keys


def new_log_seeds() -> KeySeeds:
    """Seeds for a key of the logs that never was."""
    return KeySeeds(secrets.token_bytes(32), secrets.token_bytes(32))


def _check_origin(settings: Settings, keys: LogKeys) -> None:
    if settings.log_origin not in {None, keys.origin}:
        raise SecretsError(
            f"QUIRE_LOG_ORIGIN is {settings.log_origin!r}, but the log keys are of "
            f"{keys.origin!r}: a log keeps its name for ever. Leave the setting out."
        )


def create_private_file(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, whole and on disk when this returns, or not there at all.

    Raises FileExistsError rather than replacing a file.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(scratch)  # unlike a rename, fails where the name is taken
    finally:
        scratch.unlink()
    sync_directory(path.parent)


def read_private_file(path: Path) -> bytes | None:
    """Content of a key file, or None if there is none. Raises SecretsError if others may read it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(_KEY_FILE_BYTES_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SecretsError(f"The key file {path} cannot be read: {error.strerror}.") from error
    if mode & 0o077:
        raise SecretsError(
            f"The key file {path} may be read by other users (mode {mode:04o}). "
            f"Close it with: chmod 600 {path}"
        )
    return content


def _keyring(settings: Settings, may_make: bool) -> SigningKeyring:
    """The keyring file, and the key of the environment.

    Where both exist the file's active key signs, and the other keeps verifying what it signed
    before the keys were rotated.
    """
    path = settings.signing_keyring_path
    content = read_private_file(path)
    if content is None and settings.audit_secret_key is None:
        if not may_make or settings.signing_keyring is not None:
            raise _missing(settings, "signing key", path, "QUIRE_AUDIT_SECRET_KEY")
        content = _make(path, dump_keyring(_new_keyring()))
    rings = []
    if content is not None:
        with _naming(str(path)):
            rings.append(parse_keyring(content))
    if settings.audit_secret_key is not None:
        with _naming("QUIRE_AUDIT_SECRET_KEY"):
            secret = settings.audit_secret_key.encode("utf-8", "surrogateescape")
            rings.append(SigningKeyring.from_secret(secret))
    first, *others = rings
    return first.with_key(others[0].active) if others else first


@contextlib.contextmanager
def _naming(source: str) -> Iterator[None]:
    """Name the setting or file in an error of the key formats."""
    try:
        yield
    except QuireError as error:
        raise SecretsError(f"{source}: {error}") from error


def _new_keyring() -> SigningKeyring:
    key = SigningKey(f"k-{secrets.token_hex(6)}", secrets.token_bytes(32))
    return SigningKeyring([key], [key.key_id])


def _master_key(settings: Settings, may_make: bool) -> bytes:
    if settings.master_key is not None:
        return _parse_master_key(settings.master_key, "QUIRE_MASTER_KEY")
    path = settings.master_key_path
    content = read_private_file(path)
    if content is None and may_make:
        content = _make(path, f"{secrets.token_hex(MASTER_KEY_BYTES)}\n".encode())
    if content is None:
        raise _missing(settings, "master key", path, "QUIRE_MASTER_KEY")
    return _parse_master_key(content.decode("ascii", "replace"), str(path))


def _parse_master_key(text: str, source: str) -> bytes:
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
        f"(44 characters). Make one with: {_MAKE_ONE}"
    )


def _make(path: Path, content: bytes) -> bytes:
    try:
        create_private_file(path, content)
    except FileExistsError:
        found = read_private_file(path)  # another start made it in between
        if found is not None:
            return found
        raise
    except OSError as error:
        raise SecretsError(f"The key file {path} cannot be written: {error.strerror}.") from error
    return content


def _missing(settings: Settings, what: str, path: Path, setting: str) -> SecretsError:
    if settings.embedded:
        return SecretsError(
            f"The {what} is missing: {path} does not exist and {setting} is not set, but the "
            "database was made with one. Restore it from your backup; a new one would not "
            "fit what is stored."
        )
    return SecretsError(
        f"The {what} is missing: set {setting}, or keep it in {path}. "
        f"Make a good one with: {_MAKE_ONE}\n"
        "If the database already holds orgs, use the one they were made with."
    )
