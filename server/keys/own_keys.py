"""Checks that the keys of this machine belong to this database.

A well-formed key of another database does not fail at once. With another master key no API key is
recognised, with other signing keys no entry can be checked, and with other log keys every log looks
forged. So the first start stores a value computed with each key (``key_checks``), and
every process that works on the database compares before it writes anything.
"""

from __future__ import annotations

import hmac
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from ledger import sealing
from ledger.core.checkpointing import MEMORY_FILE, log_of
from ledger.errors import QuireError, SealingError
from ledger.keys import SigningKey, SigningKeyring
from ledger.log_keys import LogKeyHistory, history_of
from ledger.storage.database import Database
from ledger.storage.key_checks import (
    MASTER,
    SIGNING,
    KeyCheck,
    KnownKeys,
    add_checks,
    known_keys,
    known_keys_at,
)
from ledger.storage.queries import Queries
from server.keys.first_start import ServerSecrets, present_keyring, present_master_key
from server.keys.key_files import read_private_file
from server.refusal import StartupRefused
from server.settings import Settings

log = structlog.get_logger("quire")

# Not 32 bytes long, so never an entry hash: the value can't be used as an entry's signature.
_SIGNING_LABEL: Final = b"quire/v1/signing-key-check"
_WRAPPED_BYTES: Final = sealing.NONCE_BYTES + sealing.KEY_BYTES + sealing.TAG_BYTES
_ANOTHER_DATABASE: Final = (
    "Nothing was changed. Restore the database's own key from the backup of its data directory, or "
    "name the database that these keys belong to (QUIRE_DATABASE_URL, QUIRE_DATA_DIR)."
)


class ForeignKeys(StartupRefused):
    """A key or a key file belongs to another database."""


@dataclass(frozen=True, slots=True)
class PresentKeys:
    """The keys that this machine has; None for each that it does not have.

    Log keys and a memory that can't be read are None too: only the signer needs them and reports
    what is wrong with them, while appends continue.
    """

    master_key: bytes | None
    keyring: SigningKeyring | None
    log: LogKeyHistory | None
    remembered: str | None
    """The log in the signer's memory: hex digest of the statement of its first key."""

    @classmethod
    def of(cls, settings: Settings, secrets: ServerSecrets | None = None) -> PresentKeys:
        """Read the keys; pass `secrets` if they were read already. Raises SecretsError."""
        return cls(
            present_master_key(settings) if secrets is None else secrets.master_key,
            present_keyring(settings) if secrets is None else secrets.keyring,
            _log_history(settings),
            _remembered(settings.data_dir / MEMORY_FILE),
        )


async def require_own_keys_at(url: str, settings: Settings) -> None:
    """Compare the keys over a separate connection, before any write. Raises ForeignKeys."""
    require_own_keys(await known_keys_at(url), PresentKeys.of(settings), settings)


async def require_own_keys_in(
    database: Queries, settings: Settings, secrets: ServerSecrets | None = None
) -> None:
    """Compare the keys over an open connection. Raises ForeignKeys."""
    require_own_keys(await known_keys(database), PresentKeys.of(settings, secrets), settings)


async def claim(database: Database, settings: Settings, secrets: ServerSecrets) -> None:
    """Store checks of this database's keys: all at its first start, later those added since.

    Raises ForeignKeys. A crash leaves all rows or none; the key files are on disk before.
    """
    present = PresentKeys.of(settings, secrets)
    checks = [KeyCheck(MASTER, "", _master_value(secrets.master_key))]
    checks += [KeyCheck(SIGNING, key.key_id, _value(key)) for key in secrets.keyring.keys()]

    def compare(known: KnownKeys) -> None:
        require_own_keys(known, present, settings)
        _report_missing(known, secrets.keyring, settings)

    await add_checks(database, checks, compare)


async def is_new(database: Database) -> bool:
    """Return whether no key ever belonged to this database, so that one may be made."""
    known = await known_keys(database)
    return known.org is None and not known.checks


def check_values(master_key: bytes, keyring: SigningKeyring) -> dict[tuple[str, str], bytes]:
    """Return the check values of these keys, by kind and key id."""
    signing = {(SIGNING, key.key_id): _value(key) for key in keyring.keys()}
    return {(MASTER, ""): _master_value(master_key), **signing}


def require_own_keys(known: KnownKeys, present: PresentKeys, settings: Settings) -> None:
    """Raise ForeignKeys if a key of this machine does not belong to this database."""
    if present.master_key is not None:
        _require_master_key(known, present.master_key, settings)
    if present.keyring is not None:
        _require_signing_keys(known, present.keyring, settings)
    if known.log and present.log is not None:
        _require_log(known.log, present.log, settings)
    if present.remembered is not None:
        _require_memory(known.log, present, settings.data_dir / MEMORY_FILE)


def require_same_ring(before: SigningKeyring, now: SigningKeyring) -> None:
    """Raise ForeignKeys if a keyring can't replace the keyring in use.

    It belongs to another database, or it lacks the active key: the entries just signed could not be
    checked, and the next append would be refused.
    """
    problem = _foreign({key.key_id: _value(key) for key in before.keys()}, now)
    if problem is None and before.active.key_id not in now.ids():
        problem = f"it lacks the active key, {before.active.key_id}"
    if problem:
        raise ForeignKeys(problem)


def _require_master_key(known: KnownKeys, master_key: bytes, settings: Settings) -> None:
    stored = [check.value for check in known.checks if check.kind == MASTER]
    if stored:
        own = hmac.compare_digest(stored[0], _master_value(master_key))
    else:  # a restore that ended before it stored the key checks
        own = known.org is None or _unwraps(master_key, *known.org)
    if not own:
        source = "QUIRE_MASTER_KEY" if settings.master_key else settings.master_key_path
        raise ForeignKeys(
            f"The master key in {source} is not the one of this database: with it no API key "
            f"would be recognised and no sealed payload opened. {_ANOTHER_DATABASE}"
        )


def _require_signing_keys(known: KnownKeys, ring: SigningKeyring, settings: Settings) -> None:
    stored = {check.key_id: check.value for check in known.checks if check.kind == SIGNING}
    problem = _foreign(stored, ring)
    if problem:
        raise ForeignKeys(
            f"The signing keys in {_keyring_source(settings)} are not those of this database: "
            f"{problem}. The next append would be refused. {_ANOTHER_DATABASE} To sign with "
            "another key from now on, add it beside the old ones: quire keys rotate-signing"
        )


def _report_missing(known: KnownKeys, ring: SigningKeyring, settings: Settings) -> None:
    """Log, once at the start, the database's signing keys that this machine lacks."""
    stored = [check.key_id for check in known.checks if check.kind == SIGNING]
    missing = [key_id for key_id in stored if key_id not in ring.ids()]
    if missing:
        log.warning(
            "the signing keyring of this machine lacks keys that signed entries of this database; "
            "their entries can't be checked here, and an append after one of them is refused. Add "
            "them with: quire keys signing add --import FILE, from a machine that has them",
            keys=missing,
            keyring=_keyring_source(settings),
        )


def _foreign(stored: dict[str, bytes], ring: SigningKeyring) -> str | None:
    """Return why a keyring does not belong to the database of the stored checks, or None."""
    shared = [key for key in ring.keys() if key.key_id in stored]
    for key in shared:
        if not hmac.compare_digest(stored[key.key_id], _value(key)):
            return f"key {key.key_id} has another secret than the one that signed so far"
    if stored and not shared:
        return f"the keyring has {_listed(ring.ids())}, and entries were signed with {_listed(list(stored))}"
    return None


def _require_log(stored: Sequence[bytes], present: LogKeyHistory, settings: Settings) -> None:
    if present.encoded_statements()[0] == stored[0]:
        return  # the same log; the signer detects an older or newer file
    own = LogKeyHistory.of(stored[:1])
    source = "QUIRE_LOG_SIGNING_KEYS" if settings.log_signing_keys else settings.log_keys_path
    raise ForeignKeys(
        f"The log keys in {source} are those of the logs {present.origin} (first key "
        f"{present.keys[0].id}), and this database's are of {own.origin} (first key "
        f"{own.keys[0].id}): every checkpoint would look forged. {_ANOTHER_DATABASE}"
    )


def _require_memory(stored: Sequence[bytes], present: PresentKeys, path: Path) -> None:
    """Check that the memory is of this database's log or, if it has none yet, of the log keys."""
    history = LogKeyHistory.of(stored[:1]) if stored else present.log
    if history is not None and history.keys[0].digest != present.remembered:
        raise ForeignKeys(foreign_memory(path))


def foreign_memory(path: Path) -> str:
    """Return the message for a signer's memory of other logs."""
    name = shlex.quote(str(path))
    return (
        f"{path} is the signer's memory of another database's logs: compared with it, this "
        "database's logs would look truncated. Nothing was changed. Restore this database's own "
        f"file from your backup, or move this file away: mv {name} {name}.other"
    )


def _log_history(settings: Settings) -> LogKeyHistory | None:
    content: bytes | None
    try:
        if settings.log_signing_keys is not None:
            content = settings.log_signing_keys.encode("utf-8", "surrogateescape")
        else:
            content = read_private_file(settings.log_keys_path)
        return None if content is None else history_of(content)
    except (QuireError, StartupRefused):
        return None


def _remembered(path: Path) -> str | None:
    try:
        return log_of(path)
    except QuireError:
        return None


def _keyring_source(settings: Settings) -> str:
    if settings.audit_secret_key is None or settings.signing_keyring_path.exists():
        return str(settings.signing_keyring_path)
    return "QUIRE_AUDIT_SECRET_KEY"


def _unwraps(master_key: bytes, slug: str, wrapped: bytes) -> bool:
    """Return whether the master key opens an org's key; True for one that was never wrapped."""
    if len(wrapped) != _WRAPPED_BYTES:
        return True
    try:
        sealing.unwrap_key(master_key, wrapped, f"org:{slug}")
    except SealingError:
        return False
    return True


def _master_value(master_key: bytes) -> bytes:
    return sealing.derive(master_key, "key-check")


def _value(key: SigningKey) -> bytes:
    return key.sign(_SIGNING_LABEL)


def _listed(ids: list[str], shown: int = 3) -> str:
    more = f" and {len(ids) - shown} more" if len(ids) > shown else ""
    return ", ".join(ids[:shown]) + more
