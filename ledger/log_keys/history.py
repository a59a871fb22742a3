"""The public history of a log's keys, and its verification.

A history proves that each key was appointed by its predecessor. It can't prove
that the first key is the log's own; pins, obtained once through another channel,
prove that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from ledger.checkpoint import OpenedCheckpoint, TreeHead, open_checkpoint
from ledger.errors import CheckpointError, KeyHistoryError, UnsignedNote
from ledger.log_keys.pins import KeyPins
from ledger.log_keys.statement import (
    Body,
    Statement,
    anchor_origin,
    org_origin,
    parse_statement,
    verify_statement,
)
from ledger.malformed import mark_of
from ledger.note import Ed25519Verifier, MlDsaVerifier, OpenedNote, Verifier

KEYS_MAX: Final = 100
HISTORY_BYTES_MAX: Final = 1 << 20


class PublicLogKey(NamedTuple):
    """One key of a log. It signs until ``retired_us`` (microseconds; None: the newest key).

    A signer needs a moment to switch to a new key, so a key may have signed shortly
    after it was retired.
    """

    id: str
    position: int
    created_us: int
    retired_us: int | None
    ed25519: bytes
    ml_dsa_44: bytes
    digest: str
    """Hex of SHA-256 over the key's statement; a pin holds this digest."""


class LogKeyHistory:
    """A verified history. Raises KeyHistoryError if it does not verify, or is empty."""

    __slots__ = ("_anchor_verifiers", "keys", "origin", "statements")

    def __init__(self, statements: Sequence[Statement]) -> None:
        if not 1 <= len(statements) <= KEYS_MAX:
            raise KeyHistoryError(f"a key history has 1 to {KEYS_MAX} keys, not {len(statements)}")
        before: Body | None = None
        created = []
        for statement in statements:
            created.append(verify_statement(statement, before))
            before = statement.statement
        self.statements = tuple(statements)
        self.origin = statements[0].statement.origin
        self.keys = tuple(map(_public, self.statements, created, [*created[1:], None]))
        if len({key.id for key in self.keys}) != len(self.keys):
            raise KeyHistoryError(
                "the key history contains a key twice; a retired key must not return"
            )
        self._anchor_verifiers = tuple(
            verifier for key in self.keys for verifier in _anchor_pair(self.origin, key)
        )

    @classmethod
    def parse(cls, data: bytes) -> LogKeyHistory:
        """Parse and verify a history document. Raises KeyHistoryError."""
        if len(data) > HISTORY_BYTES_MAX:
            raise KeyHistoryError(f"a key history has at most {HISTORY_BYTES_MAX} bytes")
        try:
            document = msgspec.json.decode(data, type=HistoryDocument)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise KeyHistoryError(
                "the key history can't be read; it must be JSON of this form: "
                '{"origin": "…", "keys": [{"statement": …, "signatures": …}]}'
            ) from None
        return document.history()

    @classmethod
    def of(cls, statements: Iterable[bytes]) -> LogKeyHistory:
        """Verify separately stored statements, oldest first. Raises KeyHistoryError."""
        return cls([parse_statement(data) for data in statements])

    def document(self) -> bytes:
        """Return the history as one JSON document, on one line."""
        return msgspec.json.encode(self.as_document())

    def as_document(self) -> HistoryDocument:
        return HistoryDocument(self.origin, self.statements)

    def encoded_statements(self) -> list[bytes]:
        """Return the stored form of each statement, oldest first; its index is its position."""
        return [statement.encode() for statement in self.statements]

    @property
    def newest(self) -> PublicLogKey:
        """The key that signs at present."""
        return self.keys[-1]

    def org_origin(self, slug: str) -> str:
        """Return an org's log origin, which is also the key name. Raises KeyHistoryError."""
        return org_origin(self.origin, slug)

    @property
    def anchor_origin(self) -> str:
        """The origin, which is also the key name, of the anchor log."""
        return anchor_origin(self.origin)

    def org_verifiers(self, slug: str) -> tuple[Verifier, ...]:
        """Return the verifiers of an org's checkpoints, oldest first. Raises KeyHistoryError."""
        name = self.org_origin(slug)
        return tuple(Ed25519Verifier(name, key.ed25519) for key in self.keys)

    def anchor_verifiers(self) -> tuple[Verifier, ...]:
        """Return the verifiers of anchors: for each key, oldest first, Ed25519 and ML-DSA-44."""
        return self._anchor_verifiers

    def check_extends(self, older: LogKeyHistory) -> None:
        """Raise KeyHistoryError unless this history equals or extends the older history."""
        beginning = [key.digest for key in self.keys[: len(older.keys)]]
        if self.origin != older.origin or beginning != [key.digest for key in older.keys]:
            raise KeyHistoryError(
                f"the key history of {self.origin!r} with {len(self.keys)} keys does not extend "
                f"that of {older.origin!r} with {len(older.keys)}: the key file is older than the "
                "last rotation, or belongs to another log"
            )

    def pins(self) -> KeyPins:
        """Return pins of every key of this history."""
        return KeyPins(self.origin, {key.position: key.digest for key in self.keys})

    def check_pins(self, pins: KeyPins) -> None:
        """Raise ForeignHistory unless this history equals or extends the pinned history."""
        pins.check(self.origin, [key.digest for key in self.keys])

    def __repr__(self) -> str:
        return f"LogKeyHistory({self.origin!r}, {[key.id for key in self.keys]})"


class HistoryDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public document, unverified."""

    origin: str
    keys: tuple[Statement, ...]

    def history(self) -> LogKeyHistory:
        """Verify the document. Raises KeyHistoryError."""
        history = LogKeyHistory(self.keys)
        if history.origin != self.origin:
            raise KeyHistoryError(
                f"the key history names the log {self.origin[:200]!r}, but its keys belong to "
                f"{history.origin!r}"
            )
        return history


def parse_trust(data: bytes) -> KeyPins:
    """Parse the keys that a verifier trusts: pins, or a whole history, which pins its keys.

    Raises KeyHistoryError.
    """
    try:
        return KeyPins.parse(data)
    except KeyHistoryError as not_pins:
        try:
            return LogKeyHistory.parse(data).pins()
        except KeyHistoryError as not_a_history:
            if mark := mark_of(data):
                raise KeyHistoryError(f"the file can't be read: {mark}") from None
            raise KeyHistoryError(
                f"the file is neither pins ({not_pins}) nor a key history ({not_a_history})"
            ) from None


def _public(statement: Statement, created_us: int, retired_us: int | None) -> PublicLogKey:
    body = statement.statement
    return PublicLogKey(
        body.id,
        body.position,
        created_us,
        retired_us,
        body.ed25519,
        body.ml_dsa_44,
        body.digest(),
    )


def _anchor_pair(base: str, key: PublicLogKey) -> tuple[Verifier, Verifier]:
    name = anchor_origin(base)
    return Ed25519Verifier(name, key.ed25519), MlDsaVerifier(name, key.ml_dsa_44)


@dataclass(frozen=True, slots=True)
class OpenedAnchor:
    """An anchor that one key of the log signed twice: with Ed25519 and with ML-DSA-44."""

    checkpoint: TreeHead
    note: OpenedNote
    key: PublicLogKey
    """The newest key with both signatures."""
    time_s: int
    """POSIX seconds of its ML-DSA-44 signature; 0: no time."""


def open_org_checkpoint(
    note: bytes, slug: str, history: LogKeyHistory, others: Iterable[Verifier] = ()
) -> OpenedCheckpoint:
    """Open a checkpoint of an org's log. Raises as :func:`ledger.checkpoint.open_checkpoint`."""
    return open_checkpoint(note, history.org_origin(slug), history.org_verifiers(slug), others)


def open_anchor(
    note: bytes, history: LogKeyHistory, witnesses: Iterable[Verifier] = ()
) -> OpenedAnchor:
    """Open an anchor: both signatures of one key of the log must be present and verify.

    Raises UnsignedNote if one of the two is missing, CheckpointError for extension
    lines, which ML-DSA-44 would not cover, and the errors of
    :func:`ledger.checkpoint.open_checkpoint`.
    """
    verifiers = history.anchor_verifiers()
    opened = open_checkpoint(note, history.anchor_origin, verifiers, witnesses)
    if opened.checkpoint.extensions:
        raise CheckpointError(
            "an anchor must not have extension lines: its ML-DSA-44 signature does not cover them"
        )
    times = {signature.verifier: signature.time_s for signature in opened.verified}
    pairs = zip(verifiers[::2], verifiers[1::2], strict=True)
    for key, (classical, post_quantum) in reversed(list(zip(history.keys, pairs, strict=True))):
        if classical in times and post_quantum in times:
            return OpenedAnchor(opened.checkpoint, opened.note, key, times[post_quantum] or 0)
    raise UnsignedNote(
        "an anchor needs an Ed25519 and an ML-DSA-44 signature by the same key; this anchor "
        "lacks one of the two"
    )
