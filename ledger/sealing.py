"""Sealing: a payload is encrypted under the key of the person it concerns.

Key ladder: master key, org key, subject key; each wraps the next with
AES-256-GCM (NIST SP 800-38D). A payload's own key is
``HMAC-SHA256(data key, label || salt)`` with a fresh 32-byte salt, so that one
payload can be opened for an auditor without opening another. Each payload key
encrypts once, so its nonce is zero. Sealed bytes are
``version (1) || salt (32) || commitment (32) || AES-256-GCM ciphertext and tag``.

The commitment, ``SHA-256(label || payload key)``, is checked before opening:
GCM alone does not bind a ciphertext to one key, so a dishonest server could
otherwise show two plaintexts for one digest. ``docs/format.md`` describes the
bytes.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from ledger.errors import MalformedSealedPayload, SealingError

KEY_BYTES: Final = 32
SALT_BYTES: Final = 32
TAG_BYTES: Final = 16
NONCE_BYTES: Final = 12
HEADER_BYTES: Final = 1 + SALT_BYTES + 32
SEALED_OVERHEAD_BYTES: Final = HEADER_BYTES + TAG_BYTES
SEAL_VERSION: Final = b"\x01"
ORG_SEAL: Final = "org"
"""The leaf's ``payload.seal`` if the event names no subject."""
REF_PREFIX: Final = "ref:"
_REF: Final = re.compile(rf"{REF_PREFIX}[A-Za-z0-9_-]{{22}}")

_PAYLOAD_KEY: Final = b"quire/v1/payload-key\x00"
_COMMITMENT: Final = b"quire/v1/payload-key-commitment\x00"
_PAYLOAD_AAD: Final = b"quire/v1/payload\x00"
_WRAP_AAD: Final = b"quire/v1/wrap\x00"
_DERIVE: Final = b"quire/v1/derive\x00"
_ZERO_NONCE: Final = bytes(NONCE_BYTES)


def is_ref(text: str) -> bool:
    """Return whether a text has the form of a person's ref; another text is a name."""
    return _REF.fullmatch(text) is not None


def derive(key: bytes, purpose: str) -> bytes:
    """Derive a 32-byte key for one purpose: HMAC-SHA256(key, label || purpose)."""
    return hmac.digest(key, _DERIVE + purpose.encode(), "sha256")


def index_key(master_key: bytes) -> bytes:
    """Return the key that authenticates the rows of the search index of all orgs."""
    return derive(master_key, "search-index")


def row_key(master_key: bytes) -> bytes:
    """Return the key that authenticates the rows by which the server decides."""
    return derive(master_key, "rows")


def address_key(master_key: bytes) -> bytes:
    """Return the key of the digests of clients' addresses (docs/limits-and-threats.md)."""
    return derive(master_key, "addresses")


def settings_key(master_key: bytes) -> bytes:
    """Return the key of the digests of secret settings (docs/own-entries.md)."""
    return derive(master_key, "settings")


def org_data_key(org_key: bytes) -> bytes:
    """Return the data key for payloads of an org's events that name no subject."""
    return derive(org_key, "org-data")


class DataKey(msgspec.Struct, gc=False):
    """A data key as a keyed hash state, shared by all its payload keys.

    Not seen by the garbage collector: there are as many as cached persons.
    """

    keyed: HMAC

    @classmethod
    def of(cls, key: bytes) -> DataKey:
        """Return the state of a key."""
        keyed = HMAC(key, SHA256())
        keyed.update(_PAYLOAD_KEY)
        return cls(keyed)

    def payload_key(self, salt: bytes) -> bytes:
        """Return the same key as :func:`payload_key`, at a third of its cost."""
        keyed = self.keyed.copy()
        keyed.update(salt)
        return keyed.finalize()


def payload_key(data_key: bytes, salt: bytes) -> bytes:
    """Return the key of one payload; disclosing it opens that payload and no other."""
    return hmac.digest(data_key, _PAYLOAD_KEY + salt, "sha256")


def payload_aad(org: str, seal: str) -> bytes:
    """Return a payload's associated data, which binds the org's slug and the seal ref."""
    return _PAYLOAD_AAD + org.encode() + b"\x00" + seal.encode()


def seal_payload(data_key: DataKey, salt: bytes, aad: bytes, plaintext: bytes) -> bytes:
    """Seal one payload under a random 32-byte salt, which must never have been used before."""
    key = data_key.payload_key(salt)
    commitment = sha256(_COMMITMENT + key).digest()
    return SEAL_VERSION + salt + commitment + AESGCM(key).encrypt(_ZERO_NONCE, plaintext, aad)


def sealed_salt(sealed: bytes) -> bytes:
    """Return the salt of a sealed payload. Raises MalformedSealedPayload."""
    if len(sealed) < SEALED_OVERHEAD_BYTES or sealed[:1] != SEAL_VERSION:
        raise MalformedSealedPayload(
            f"the {len(sealed)} bytes are not a sealed payload of version {SEAL_VERSION[0]}"
        )
    return sealed[1 : 1 + SALT_BYTES]


def open_payload(data_key: bytes, aad: bytes, sealed: bytes) -> bytes:
    """Open a sealed payload with its data key.

    Raises MalformedSealedPayload for bytes of another form, SealingError if the
    payload was sealed with another key, org or ref.
    """
    return open_with_payload_key(payload_key(data_key, sealed_salt(sealed)), aad, sealed)


def open_with_payload_key(key: bytes, aad: bytes, sealed: bytes) -> bytes:
    """Open a sealed payload with its own key, such as one disclosed to an auditor."""
    sealed_salt(sealed)
    commitment = sealed[1 + SALT_BYTES : HEADER_BYTES]
    committed = hmac.compare_digest(sha256(_COMMITMENT + key).digest(), commitment)
    if len(key) != KEY_BYTES or not committed:
        raise SealingError("the payload was sealed with another key")
    try:
        return AESGCM(key).decrypt(_ZERO_NONCE, sealed[HEADER_BYTES:], aad)
    except InvalidTag:
        raise SealingError("the payload can't be decrypted: it was altered or moved") from None


def wrap_key(wrapping_key: bytes, nonce: bytes, key: bytes, purpose: str) -> bytes:
    """Wrap a key or a short secret under another key: ``nonce (12) || ciphertext and tag``."""
    return nonce + AESGCM(wrapping_key).encrypt(nonce, key, _WRAP_AAD + purpose.encode())


def unwrap_key(wrapping_key: bytes, wrapped: bytes, purpose: str) -> bytes:
    """Undo :func:`wrap_key`. Raises SealingError."""
    nonce, ciphertext = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
    try:
        return AESGCM(wrapping_key).decrypt(nonce, ciphertext, _WRAP_AAD + purpose.encode())
    except (InvalidTag, ValueError):
        raise SealingError(
            f"the wrapped key for {purpose} can't be decrypted; check that QUIRE_MASTER_KEY is "
            "the master key it was wrapped with"
        ) from None
