"""Key names, key ids and signature lines of signed notes.

C2SP signed-note, sections "Format" and "Signatures"::

    — <key name> base64(key id (4) || signature)
    key id = SHA-256(key name || 0x0A || signature type || public key)[:4]
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from ledger.errors import NoteError

KEY_ID_BYTES: Final = 4
LINE_START: Final = "— ".encode()
_NAME = re.compile(r"[^\s+\x00-\x1f]+")


class SignatureType(IntEnum):
    """The signature types that are read and written here, by their identifier byte."""

    ED25519 = 0x01
    ED25519_COSIGNATURE = 0x04
    ML_DSA_44_COSIGNATURE = 0x06


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: ``blob`` is what follows the 4-byte key id, never empty.

    Nothing is known of the key or of the blob's form until a verifier has looked.
    """

    name: str
    key_id: bytes
    blob: bytes

    def line(self) -> bytes:
        """The line in a note, with its newline."""
        return line_prefix(self.name) + encode_blob(self.key_id + self.blob)


def key_name(name: str) -> bytes:
    """The UTF-8 bytes of a key name. Raises NoteError for what is not one."""
    if not _NAME.fullmatch(name):
        raise NoteError(f"{name!r} is no key name: it must have characters, and no space or '+'")
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise NoteError(f"the key name {name!r} holds half of a surrogate pair") from None


def key_id(name: bytes, kind: SignatureType, public_key: bytes) -> bytes:
    """The 4-byte id of a key under a name, as the specification recommends."""
    return sha256(name + b"\n" + kind.to_bytes(1, "big") + public_key).digest()[:KEY_ID_BYTES]


def line_prefix(name: str) -> bytes:
    """What stands in a signature line before the base64. Raises NoteError."""
    return LINE_START + key_name(name) + b" "


def encode_blob(blob: bytes) -> bytes:
    """Base64 and the newline that ends a signature line."""
    return binascii.b2a_base64(blob)


def parse_line(line: bytes) -> NoteSignature:
    """Read one signature line, without its newline. Raises NoteError."""
    if not line.startswith(LINE_START):
        raise NoteError("a signature line begins with an em dash and a space")
    name, space, encoded = line.removeprefix(LINE_START).partition(b" ")
    if not space:
        raise NoteError("a signature line is an em dash, a key name and base64, one space between")
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise NoteError("a signature line is not UTF-8") from None
    key_name(text)
    blob = decode_base64(encoded, f"the signature of {text!r}")
    if len(blob) <= KEY_ID_BYTES:
        raise NoteError(f"the signature of {text!r} ends before it begins: {len(blob)} bytes")
    return NoteSignature(text, blob[:KEY_ID_BYTES], blob[KEY_ID_BYTES:])


def decode_base64(encoded: bytes, what: str) -> bytes:
    """RFC 4648 section 4, padded, and no second spelling of the same bytes.

    Raises NoteError, naming what it was.
    """
    try:
        decoded = binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        raise NoteError(f"{what} is not base64") from None
    # Bits that padding leaves unused must be zero, or a note had many spellings.
    if binascii.b2a_base64(decoded, newline=False) != encoded:
        raise NoteError(f"{what} is not base64 in its one canonical spelling")
    return decoded
