"""The private keys of the logs: what the signer holds, and nobody else.

An Ed25519 and an ML-DSA-44 key, made from 32-byte seeds, sign together. A key
that was rotated out can only forge, so its seeds are not kept: the file holds
the seeds of the active key and the public history, which ends with it.
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
    'a log key file is JSON: {"active": {"id": "…", "ed25519_seed": "<base64>", '
    '"ml_dsa_44_seed": "<base64>"}, "history": {…}}'
)


class KeySeeds:
    """Fresh secret seeds of 32 bytes each, which never show. Raises LogKeyError."""

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
    """The active key and the history that ends with it; else LogKeyError."""

    __slots__ = ("_active", "_anchor_signers", "_history")

    def __init__(self, active: KeySeeds, history: LogKeyHistory) -> None:
        newest = history.newest
        if active.id != newest.id:
            raise LogKeyError(
                f"the seeds are those of key {active.id}, but the history ends with {newest.id}: "
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
        """Id of the key that signs."""
        return self._active.id

    def org_signers(self, slug: str) -> tuple[Signer, ...]:
        """What signs an org's checkpoints: Ed25519, under its origin. Raises KeyHistoryError."""
        return (Ed25519Signer(org_origin(self.origin, slug), self._active.ed25519),)

    def anchor_signers(self) -> tuple[Signer, ...]:
        """What signs anchors, always together: Ed25519, then ML-DSA-44."""
        return self._anchor_signers

    def public(self) -> LogKeyHistory:
        """The public history."""
        return self._history

    def __repr__(self) -> str:
        return f"LogKeys({self.origin!r}, {self.active_id!r})"


def generate(origin: str, seeds: KeySeeds, now_us: int) -> LogKeys:
    """The first key of a new log, at a time in microseconds since the Unix epoch.

    Raises KeyHistoryError for an origin that is none.
    """
    body = state(origin, seeds.ed25519, seeds.ml_dsa_44, now_us, None)
    own = sign(body, seeds.id, seeds.ed25519, seeds.ml_dsa_44)
    return LogKeys(seeds, LogKeyHistory([Statement(body, (own,))]))


def rotate(keys: LogKeys, seeds: KeySeeds, now_us: int) -> LogKeys:
    """Appoint a new active key, signed by the one before it and by itself.

    Its time is no earlier than that key's. Raises LogKeyError where the history
    is full or has the key already.
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
    """Read a log key file, its history verified. Raises LogKeyError; no message holds a seed."""
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
        raise LogKeyError(f"the active key's id is not that of its seeds, {keys.active_id}")
    return keys


class _PublicPart(msgspec.Struct):
    history: HistoryDocument


def history_of(data: bytes) -> LogKeyHistory:
    """The history in a log key file, verified; for who verifies and has no use for the seeds.

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
    """The keys as the file that :func:`parse_log_keys` reads."""
    active = keys._active  # noqa: SLF001 - one module
    file = _LogKeyFile(
        _Active(active.id, active.ed25519.seed(), active.ml_dsa_44.seed()),
        keys.public().as_document(),
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"
