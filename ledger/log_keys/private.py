"""The private keys of the logs, which only the signer has.

An Ed25519 and an ML-DSA-44 key, made from 32-byte seeds, sign together. A retired
key is of use to forgers only, so its seeds are not kept: the file holds the seeds
of the active key, and the public history, which ends with that key.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ledger.errors import KeyHistoryError, LogKeyError, NoteError
from ledger.log_keys.history import KEYS_MAX, HistoryDocument, LogKeyHistory
from ledger.log_keys.statement import Statement, anchor_origin, key_id, org_origin, sign, state
from ledger.note import Ed25519Key, Ed25519Signer, MlDsaKey, MlDsaSigner, Signer

SEED_BYTES: Final = 32
LOG_KEYS_BYTES_MAX: Final = (1 << 20) + 4_096
_FORM: Final = (
    "the log key file can't be read; it must be JSON of this form: "
    '{"active": {"id": "…", "ed25519_seed": "<base64>", '
    '"ml_dsa_44_seed": "<base64>"}, "history": {…}}'
)


class KeySeeds:
    """Fresh secret seeds of 32 bytes each; a repr never shows them. Raises LogKeyError."""

    __slots__ = ("ed25519", "id", "ml_dsa_44")

    def __init__(self, ed25519: bytes, ml_dsa_44: bytes) -> None:
        if ed25519 == ml_dsa_44:
            raise LogKeyError("the two seeds of a log key must differ")
        try:
            self.ed25519 = Ed25519Key(ed25519)
            self.ml_dsa_44 = MlDsaKey(ml_dsa_44)
        except NoteError as error:
            raise LogKeyError(str(error)) from None
        self.id = key_id(self.ed25519.public_key, self.ml_dsa_44.public_key)

    def __repr__(self) -> str:
        return f"KeySeeds({self.id!r})"


class LogKeys:
    """The active key and the history. Raises LogKeyError unless it ends with the active key."""

    __slots__ = ("_active", "_anchor_signers", "_history")

    def __init__(self, active: KeySeeds, history: LogKeyHistory) -> None:
        newest = history.newest
        if active.id != newest.id:
            raise LogKeyError(
                f"the seeds belong to key {active.id}, but the history ends with {newest.id}: "
                "restore the log key file from your backup"
            )
        self._active = active
        self._history = history
        name = anchor_origin(history.origin)
        self._anchor_signers = (
            Ed25519Signer(name, active.ed25519),
            MlDsaSigner(name, active.ml_dsa_44),
        )

    @property
    def origin(self) -> str:
        """The base origin of all the server's logs."""
        return self._history.origin

    @property
    def active_id(self) -> str:
        """The id of the key that signs."""
        return self._active.id

    def org_signers(self, slug: str) -> tuple[Signer, ...]:
        """Return an org's checkpoint signers: Ed25519 under its origin. Raises KeyHistoryError."""
        return (Ed25519Signer(org_origin(self.origin, slug), self._active.ed25519),)

    def anchor_signers(self) -> tuple[Signer, ...]:
        """Return the signers of anchors, always used together: Ed25519, then ML-DSA-44."""
        return self._anchor_signers

    def public(self) -> LogKeyHistory:
        """Return the public history."""
        return self._history

    def __repr__(self) -> str:
        return f"LogKeys({self.origin!r}, {self.active_id!r})"


def generate(origin: str, seeds: KeySeeds, now_us: int) -> LogKeys:
    """Make the first key of a new log, at a time in microseconds since the Unix epoch.

    Raises KeyHistoryError for an invalid origin.
    """
    body = state(origin, seeds.ed25519, seeds.ml_dsa_44, now_us, None)
    own = sign(body, seeds.id, seeds.ed25519, seeds.ml_dsa_44)
    return LogKeys(seeds, LogKeyHistory([Statement(body, (own,))]))


def rotate(keys: LogKeys, seeds: KeySeeds, now_us: int) -> LogKeys:
    """Appoint a new active key, signed by its predecessor and by itself.

    Its time is not before its predecessor's. Raises LogKeyError if the history is
    full or has the key already.
    """
    history, old = keys.public(), keys._active  # noqa: SLF001 - one module
    if len(history.keys) >= KEYS_MAX:
        raise LogKeyError(f"a log has at most {KEYS_MAX} keys in its history")
    created_us = max(now_us, history.newest.created_us)
    before = history.statements[-1].statement
    body = state(history.origin, seeds.ed25519, seeds.ml_dsa_44, created_us, before)
    signatures = (
        sign(body, old.id, old.ed25519, old.ml_dsa_44),
        sign(body, seeds.id, seeds.ed25519, seeds.ml_dsa_44),
    )
    try:
        return LogKeys(seeds, LogKeyHistory([*history.statements, Statement(body, signatures)]))
    except KeyHistoryError as error:
        raise LogKeyError(str(error)) from None


class _Active(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    ed25519_seed: bytes
    ml_dsa_44_seed: bytes


class _LogKeyFile(msgspec.Struct, forbid_unknown_fields=True):
    active: _Active
    history: HistoryDocument


def parse_log_keys(data: bytes) -> LogKeys:
    """Parse a log key file and verify its history. Raises LogKeyError; no message holds a seed."""
    if len(data) > LOG_KEYS_BYTES_MAX:
        raise LogKeyError(f"a log key file has at most {LOG_KEYS_BYTES_MAX} bytes")
    try:
        file = msgspec.json.decode(data, type=_LogKeyFile)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise LogKeyError(_FORM) from None
    try:
        keys = LogKeys(
            KeySeeds(file.active.ed25519_seed, file.active.ml_dsa_44_seed), file.history.history()
        )
    except KeyHistoryError as error:
        raise LogKeyError(str(error)) from None
    if file.active.id != keys.active_id:
        raise LogKeyError(
            f"the active key's id does not fit its seeds, whose id is {keys.active_id}: restore "
            "the log key file from your backup"
        )
    return keys


class _PublicPart(msgspec.Struct):
    history: HistoryDocument


def history_of(data: bytes) -> LogKeyHistory:
    """Return the verified history of a log key file, for callers that do not need the seeds.

    Raises LogKeyError.
    """
    if len(data) > LOG_KEYS_BYTES_MAX:
        raise LogKeyError(f"a log key file has at most {LOG_KEYS_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(data, type=_PublicPart).history.history()
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise LogKeyError(_FORM) from None
    except KeyHistoryError as error:
        raise LogKeyError(str(error)) from None


def dump_log_keys(keys: LogKeys) -> bytes:
    """Return the keys as the file that :func:`parse_log_keys` reads."""
    active = keys._active  # noqa: SLF001 - one module
    file = _LogKeyFile(
        _Active(active.id, active.ed25519.seed(), active.ml_dsa_44.seed()),
        keys.public().as_document(),
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"
