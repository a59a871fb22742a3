"""One statement of the key history: a key, its position, and the signatures that appoint it.

The body is JSON in the canonical form of RFC 8785. The preceding key and the key
itself sign, with Ed25519 and ML-DSA-44 (empty context)::

    "quire/v1/log-key" || 0x00 || body

No note text and no cosigned message begins like that (a note has no zero byte, a
cosigned message begins with its own label), so no signature is valid for another
kind of message. The names of a server's logs, of each org and the anchor log, are
below one base origin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final

import msgspec

from ledger.entry import format_time, from_datetime
from ledger.errors import KeyHistoryError, NoteError
from ledger.note import Ed25519Key, MlDsaKey, ed25519, mldsa

BASE_ORIGIN_CHARACTERS_MAX: Final = 180
"""With ``/orgs/`` and a slug of 63 characters it fits the 255 bytes of a cosigned message."""
_BASE = re.compile(r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[A-Za-z0-9._~-]+)*")
_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def check_base_origin(origin: str) -> str:
    """Return the base origin if it is valid: a URL without scheme. Raises KeyHistoryError."""
    if len(origin) > BASE_ORIGIN_CHARACTERS_MAX or not _BASE.fullmatch(origin):
        raise KeyHistoryError(
            "a log's origin must be a host, optionally with a path, without scheme or a slash at "
            f'the end, such as "audit.example.com/ledger": at most {BASE_ORIGIN_CHARACTERS_MAX} '
            "characters"
        )
    return origin


def org_origin(base: str, slug: str) -> str:
    """Return the origin, which is also the key name, of an org's log. Raises KeyHistoryError."""
    if not _SLUG.fullmatch(slug):
        raise KeyHistoryError(f"{slug[:64]!r} is not a valid slug of an org, so it has no log")
    return f"{base}/orgs/{slug}"


def anchor_origin(base: str) -> str:
    """Return the origin, which is also the key name, of the anchor log."""
    return f"{base}/anchors"


STATEMENT_BYTES_MAX: Final = 16_384
"""Limit of a statement's size; with two pairs of signatures it has about 8,700 bytes."""
_LABEL: Final = b"quire/v1/log-key\x00"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signed body. Its fields have the order of RFC 8785, so it encodes canonically."""

    created_at: str
    ed25519: bytes
    id: str
    ml_dsa_44: bytes
    origin: str
    position: int
    previous: str | None
    """Hex of SHA-256 over the preceding body."""
    v: int = 1

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    def digest(self) -> str:
        """Return the hex of SHA-256 over the body, by which the next body and pins refer to it."""
        return sha256(self.encode()).hexdigest()


class Signatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key's signatures over a body."""

    key: str
    ed25519: bytes
    ml_dsa_44: bytes


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body and its signatures: by the preceding key (except for the first), then its own."""

    statement: Body
    signatures: tuple[Signatures, ...]

    def encode(self) -> bytes:
        """Return the JSON in which the statement is stored and published."""
        return msgspec.json.encode(self)


def parse_statement(data: bytes) -> Statement:
    """Parse one statement without verifying it. Raises KeyHistoryError."""
    if len(data) > STATEMENT_BYTES_MAX:
        raise KeyHistoryError(f"a key statement has at most {STATEMENT_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(data, type=Statement)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise KeyHistoryError(
            "a key statement must be a JSON object of statement and signatures"
        ) from None


def key_id(ed25519_public: bytes, mldsa_public: bytes) -> str:
    """Return the id of a key: ``lk-`` and 16 hex digits, derived from the two public keys."""
    return "lk-" + sha256(ed25519_public + mldsa_public).hexdigest()[:16]


def state(
    origin: str, ed25519_key: Ed25519Key, mldsa_key: MlDsaKey, created_us: int, before: Body | None
) -> Body:
    """Return the body for a new key that follows the key of ``before``."""
    return Body(
        created_at=format_time(created_us),
        ed25519=ed25519_key.public_key,
        id=key_id(ed25519_key.public_key, mldsa_key.public_key),
        ml_dsa_44=mldsa_key.public_key,
        origin=check_base_origin(origin),
        position=0 if before is None else before.position + 1,
        previous=None if before is None else before.digest(),
    )


def sign(body: Body, signer_id: str, ed25519_key: Ed25519Key, mldsa_key: MlDsaKey) -> Signatures:
    """Sign a body with one key."""
    message = _LABEL + body.encode()
    return Signatures(signer_id, ed25519_key.sign(message), mldsa_key.sign(message))


def verify_statement(statement: Statement, before: Body | None) -> int:
    """Verify a statement by itself and against the preceding body; return its time (µs).

    Raises KeyHistoryError with the reason.
    """
    body = statement.statement
    created_us = _verify_place(body, before)
    signers = [body] if before is None else [before, body]
    if [pair.key for pair in statement.signatures] != [signer.id for signer in signers]:
        raise KeyHistoryError(
            f"key {body.id!r} must be signed by {' and '.join(repr(s.id) for s in signers)}, "
            "in this order, and by no other key"
        )
    _verify_signatures(body, signers, statement.signatures)
    return created_us


def parse_time(text: str) -> int:
    """Parse a time of :func:`ledger.entry.format_time` to microseconds. Raises KeyHistoryError."""
    if _TIME.fullmatch(text):
        try:
            return from_datetime(datetime.fromisoformat(text))
        except ValueError:
            pass
    raise KeyHistoryError(f"{text[:40]!r} is not a time of the form YYYY-MM-DDThh:mm:ss.ffffffZ")


def _verify_place(body: Body, before: Body | None) -> int:
    if body.v != 1:
        raise KeyHistoryError(f"this version reads key statements of version 1, not {body.v}")
    check_base_origin(body.origin)
    created_us = parse_time(body.created_at)
    if body.id != key_id(body.ed25519, body.ml_dsa_44):
        raise KeyHistoryError(f"the id {body.id[:40]!r} does not fit the public keys of its key")
    if before is None:
        if body.position != 0 or body.previous is not None:
            raise KeyHistoryError(
                f"the key history begins with {body.id!r}, which is not the log's first key"
            )
        return created_us
    if body.position != before.position + 1 or body.previous != before.digest():
        raise KeyHistoryError(
            f"key {body.id!r} does not follow {before.id!r}: a key is missing or was altered"
        )
    if body.origin != before.origin:
        raise KeyHistoryError(
            f"key {body.id!r} belongs to the log {body.origin!r}, not to {before.origin!r}"
        )
    if created_us < parse_time(before.created_at):
        raise KeyHistoryError(f"key {body.id!r} is older than {before.id!r}, which it follows")
    return created_us


def _verify_signatures(
    body: Body, signers: Sequence[Body], signatures: Sequence[Signatures]
) -> None:
    message = _LABEL + body.encode()
    try:
        for signer, by in zip(signers, signatures, strict=True):
            ed25519.check_signature(
                ed25519.load_public_key(signer.ed25519), signer.id, by.ed25519, message
            )
            mldsa.check_signature(
                mldsa.load_public_key(signer.ml_dsa_44), signer.id, by.ml_dsa_44, message
            )
    except NoteError as error:
        raise KeyHistoryError(f"statement of key {body.id!r}: {error}") from None
