"""One statement of the key history: a key, its place, and who vouches for it.

The body is JSON in the canonical form of RFC 8785. Signed with Ed25519 and
ML-DSA-44 (empty context), by the key before it and by itself, is::

    "quire/v1/log-key" || 0x00 || body

No note's text and no cosigned message begins like that (a note holds no zero
byte, the other begins with its own label), so none passes for the other. The names of
a server's logs, each org's and the anchor log's, are below one base origin.
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
"""With ``/orgs/`` and a slug of 63 it stays within the 255 bytes of a cosigned message."""
_BASE = re.compile(r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[A-Za-z0-9._~-]+)*")
_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def check_base_origin(origin: str) -> str:
    """The base origin as it was given, a URL without scheme. Raises KeyHistoryError."""
    if len(origin) > BASE_ORIGIN_CHARACTERS_MAX or not _BASE.fullmatch(origin):
        raise KeyHistoryError(
            "a log's origin is a host, and a path if you like, without scheme or a slash at its "
            f'end, such as "audit.example.com/ledger": at most {BASE_ORIGIN_CHARACTERS_MAX} '
            "characters"
        )
    return origin


def org_origin(base: str, slug: str) -> str:
    """Origin, and key name, of an org's log. Raises KeyHistoryError for what is no slug."""
    if not _SLUG.fullmatch(slug):
        raise KeyHistoryError(f"{slug[:64]!r} is no org's slug: it has no log")
    return f"{base}/orgs/{slug}"


def anchor_origin(base: str) -> str:
    """Origin, and key name, of the anchor log."""
    return f"{base}/anchors"


STATEMENT_BYTES_MAX: Final = 16_384
"""A statement with two pairs of signatures has about 8,700."""
_LABEL: Final = b"quire/v1/log-key\x00"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is signed. Declared in the order of RFC 8785, so it encodes to its canonical form."""

    created_at: str
    ed25519: bytes
    id: str
    ml_dsa_44: bytes
    origin: str
    position: int
    previous: str | None
    """Hex of SHA-256 over the body before it."""
    v: int = 1

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    def digest(self) -> str:
        """Hex of SHA-256 over the body: what the next one and a pin name it by."""
        return sha256(self.encode()).hexdigest()


class Signatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key's signatures over a body."""

    key: str
    ed25519: bytes
    ml_dsa_44: bytes


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body and its signatures: of the key before (none for the first), then its own."""

    statement: Body
    signatures: tuple[Signatures, ...]

    def encode(self) -> bytes:
        """As JSON, the form in which it is stored and published."""
        return msgspec.json.encode(self)


def parse_statement(data: bytes) -> Statement:
    """Read one statement; nothing in it is verified. Raises KeyHistoryError."""
    if len(data) > STATEMENT_BYTES_MAX:
        raise KeyHistoryError(f"a key statement has at most {STATEMENT_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(data, type=Statement)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise KeyHistoryError(
            "a key statement is a JSON object of statement and signatures"
        ) from None


def key_id(ed25519_public: bytes, mldsa_public: bytes) -> str:
    """``lk-`` and 16 hex digits, found from the two public keys."""
    return "lk-" + sha256(ed25519_public + mldsa_public).hexdigest()[:16]


def state(
    origin: str, ed25519_key: Ed25519Key, mldsa_key: MlDsaKey, created_us: int, before: Body | None
) -> Body:
    """The body for a new key behind the one before it."""
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
    """One key's signatures over a body."""
    message = _LABEL + body.encode()
    return Signatures(signer_id, ed25519_key.sign(message), mldsa_key.sign(message))


def verify_statement(statement: Statement, before: Body | None) -> int:
    """Hold a statement against itself and the body before it; returns its time in microseconds.

    Raises KeyHistoryError naming what is wrong.
    """
    body = statement.statement
    created_us = _verify_place(body, before)
    signers = [body] if before is None else [before, body]
    if [one.key for one in statement.signatures] != [signer.id for signer in signers]:
        raise KeyHistoryError(
            f"key {body.id!r} must be signed by {' and '.join(repr(s.id) for s in signers)}, "
            "in this order and by no other"
        )
    _verify_signatures(body, signers, statement.signatures)
    return created_us


def parse_time(text: str) -> int:
    """Microseconds of a time as :func:`ledger.entry.format_time` writes it. Raises KeyHistoryError."""
    if _TIME.fullmatch(text):
        try:
            return from_datetime(datetime.fromisoformat(text))
        except ValueError:
            pass
    raise KeyHistoryError(f"{text[:40]!r} is no time of the form YYYY-MM-DDThh:mm:ss.ffffffZ")


def _verify_place(body: Body, before: Body | None) -> int:
    if body.v != 1:
        raise KeyHistoryError(f"this version reads key statements of version 1, not {body.v}")
    check_base_origin(body.origin)
    created_us = parse_time(body.created_at)
    if body.id != key_id(body.ed25519, body.ml_dsa_44):
        raise KeyHistoryError(f"the id {body.id[:40]!r} is not that of the keys beside it")
    if before is None:
        if body.position != 0 or body.previous is not None:
            raise KeyHistoryError(f"the history does not begin with its first key but {body.id!r}")
        return created_us
    if body.position != before.position + 1 or body.previous != before.digest():
        raise KeyHistoryError(
            f"key {body.id!r} does not follow {before.id!r}: one is missing or altered"
        )
    if body.origin != before.origin:
        raise KeyHistoryError(
            f"key {body.id!r} is of log {body.origin!r}, not of {before.origin!r}"
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
