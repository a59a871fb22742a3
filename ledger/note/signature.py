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
    """The supported signature types, by their identifier byte."""

    ED25519 = 0x01
    ED25519_COSIGNATURE = 0x04
    ML_DSA_44_COSIGNATURE = 0x06


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: ``blob`` holds the bytes after the 4-byte key id, never empty.

    The key and the form of the blob are unknown until a verifier checks them.
    """

    name: str
    key_id: bytes
    blob: bytes

    def line(self) -> bytes:
        """Return the line of a note, with its newline."""
        return line_prefix(self.name) + encode_blob(self.key_id + self.blob)


def key_name(name: str) -> bytes:
    """Return the UTF-8 bytes of a key name. Raises NoteError for an invalid name."""
    if not _NAME.fullmatch(name):
        raise NoteError(f'{name!r} is not a key name: it must not be empty or have a space or "+"')
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise NoteError(f"the key name {name!r} holds half of a surrogate pair") from None


def key_id(name: bytes, kind: SignatureType, public_key: bytes) -> bytes:
    """Return the 4-byte id of a key under a name, as the specification recommends."""
    return sha256(name + b"\n" + kind.to_bytes(1, "big") + public_key).digest()[:KEY_ID_BYTES]


def line_prefix(name: str) -> bytes:
    """Return the part of a signature line before the base64. Raises NoteError."""
    return LINE_START + key_name(name) + b" "


def encode_blob(blob: bytes) -> bytes:
    """Return the base64 and the newline that end a signature line."""
    return binascii.b2a_base64(blob)


def parse_line(line: bytes) -> NoteSignature:
    """Parse one signature line, without its newline. Raises NoteError."""
    if not line.startswith(LINE_START):
        raise NoteError("a signature line must begin with an em dash and a space")
    name, space, encoded = line.removeprefix(LINE_START).partition(b" ")
    if not space:
        raise NoteError(
            "a signature line must be an em dash, a key name and base64, separated by single spaces"
        )
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise NoteError("a signature line is not UTF-8") from None
    key_name(text)
    blob = decode_base64(encoded, f"the signature of {text!r}")
    if len(blob) <= KEY_ID_BYTES:
        raise NoteError(
            f"the signature of {text!r} is cut short: it has {len(blob)} bytes in all, "
            f"and the key id alone takes {KEY_ID_BYTES}"
        )
    return NoteSignature(text, blob[:KEY_ID_BYTES], blob[KEY_ID_BYTES:])


def decode_base64(encoded: bytes, name: str) -> bytes:
    """Decode base64 (RFC 4648 section 4), padded, in its one canonical spelling.

    Raises NoteError; ``name`` names the value in the message.
    """
    try:
        decoded = binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        raise NoteError(f"{name} is not base64") from None
    # Bits that padding leaves unused must be zero, or one note would have many spellings.
    if binascii.b2a_base64(decoded, newline=False) != encoded:
        raise NoteError(f"{name} is not canonical base64: unused bits at its end are set")
    return decoded
