"""Keys of notes as text.

Verifier keys follow C2SP signed-note, "Verifier keys": ``name+hex(key
id)+base64(type || public key)``. Private keys have the form of Go's
``golang.org/x/mod/sumdb/note``: ``PRIVATE+KEY+`` before the same text, with the
32-byte seed in place of the public key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from ledger.errors import NoteError
from ledger.note.cosignature import CosignatureSigner, CosignatureVerifier
from ledger.note.ed25519 import Ed25519Signer, Ed25519Verifier
from ledger.note.keys import Signer, Verifier
from ledger.note.mldsa import MlDsaSigner, MlDsaVerifier
from ledger.note.signature import SignatureType, decode_base64, key_name

KEY_TEXT_CHARACTERS_MAX: Final = 8_192
"""An ML-DSA-44 key takes 1,752 characters after its name."""
_PRIVATE: Final = "PRIVATE+KEY+"
_Key = TypeVar("_Key", Verifier, Signer)
_ID = re.compile(r"[0-9a-f]{8}")
_VERIFIERS: Final[Mapping[int, Callable[[str, bytes], Verifier]]] = {
    SignatureType.ED25519: Ed25519Verifier,
    SignatureType.ED25519_COSIGNATURE: CosignatureVerifier,
    SignatureType.ML_DSA_44_COSIGNATURE: MlDsaVerifier,
}
_SIGNERS: Final[Mapping[int, Callable[[str, bytes], Signer]]] = {
    SignatureType.ED25519: Ed25519Signer.from_seed,
    SignatureType.ED25519_COSIGNATURE: CosignatureSigner.from_seed,
    SignatureType.ML_DSA_44_COSIGNATURE: MlDsaSigner.from_seed,
}


def parse_vkey(text: str) -> Verifier:
    """Parse a verifier key. Raises NoteError for any other text, or an unsupported type."""
    if text.startswith(_PRIVATE):
        raise NoteError("this is a private key: keep it secret and give its verifier key instead")
    name, key_id, kind, key = _parse(text, "a verifier key")
    make = _VERIFIERS.get(kind)
    if make is None:
        raise _other_type(name, kind)
    return _with_id(make(name, key), key_id)


def parse_skey(text: str) -> Signer:
    """Parse a private key. Raises NoteError, whose message reveals nothing of the key."""
    if not text.startswith(_PRIVATE):
        raise NoteError(f"a private key must begin with {_PRIVATE}")
    name, key_id, kind, seed = _parse(text.removeprefix(_PRIVATE), "a private key")
    make = _SIGNERS.get(kind)
    if make is None:
        raise _other_type(name, kind)
    return _with_id(make(name, seed), key_id)


def _parse(text: str, label: str) -> tuple[str, bytes, int, bytes]:
    """Return name, key id, type byte and key material."""
    if len(text) > KEY_TEXT_CHARACTERS_MAX:
        raise NoteError(f"{label} has at most {KEY_TEXT_CHARACTERS_MAX} characters")
    parts = text.split("+", 2)
    if len(parts) != 3 or not _ID.fullmatch(parts[1]):
        raise NoteError(
            f"{label} must be name+id+key: the id 8 lower-case hex digits, the key base64"
        )
    name, identity, encoded = parts
    key_name(name)
    # "replace" turns other characters into "?", which is not base64 either.
    key = decode_base64(encoded.encode("ascii", "replace"), f"the key of {name!r}")
    if not key:
        raise NoteError(f"the key of {name!r} is empty")
    return name, bytes.fromhex(identity), key[0], key[1:]


def _with_id(key: _Key, key_id: bytes) -> _Key:
    if key.key_id != key_id:
        raise NoteError(
            f"the key of {key.name!r} has the id {key.key_id.hex()}, not {key_id.hex()}: "
            "its text was altered or cut"
        )
    return key


def _other_type(name: str, kind: int) -> NoteError:
    known = ", ".join(f"0x{supported:02x}" for supported in _VERIFIERS)
    return NoteError(f"the key of {name!r} has type 0x{kind:02x}; this version supports {known}")
