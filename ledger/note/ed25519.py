"""Ed25519 keys of notes: type 0x01, over the note text (C2SP signed-note, "Ed25519 signatures")."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature as _DoesNotVerify
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import InvalidSignature, NoteError
from ledger.note.keys import Signer, Verifier
from ledger.note.signature import SignatureType

SEED_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class Ed25519Key:
    """An Ed25519 private key, made once from its 32-byte seed (RFC 8032 section 5.1.5).

    Several signers share it: a log signs under as many names as it has trees.
    """

    __slots__ = ("_key", "public_key")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise NoteError(f"an Ed25519 seed has {SEED_BYTES} bytes, not {len(seed)}")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the signature: 64 bytes, deterministic."""
        return self._key.sign(message)

    def seed(self) -> bytes:
        return self._key.private_bytes_raw()

    def __repr__(self) -> str:
        return f"Ed25519Key(public_key={self.public_key.hex()})"


def load_public_key(public_key: bytes) -> Ed25519PublicKey:
    """Load an Ed25519 public key. Raises NoteError for bytes that are not one."""
    try:
        return Ed25519PublicKey.from_public_bytes(public_key)
    except ValueError:
        raise NoteError(
            f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(public_key)}"
        ) from None


def check_signature(key: Ed25519PublicKey, name: str, signature: bytes, message: bytes) -> None:
    """Verify a signature. Raises InvalidSignature, which names the key."""
    try:
        key.verify(signature, message)
    except _DoesNotVerify:
        raise InvalidSignature(f"the Ed25519 signature by {name!r} does not verify") from None


class Ed25519Verifier(Verifier):
    """Verifies signatures of type 0x01."""

    kind = SignatureType.ED25519
    __slots__ = ("_key",)

    def __init__(self, name: str, public_key: bytes) -> None:
        super().__init__(name, public_key)
        self._key = load_public_key(public_key)

    def verify(self, text: bytes, blob: bytes) -> None:
        check_signature(self._key, self.name, blob, text)


class Ed25519Signer(Signer):
    """Signs note texts with type 0x01. Cheap to make from a shared key."""

    kind = SignatureType.ED25519
    __slots__ = ("_key",)

    def __init__(self, name: str, key: Ed25519Key) -> None:
        super().__init__(name, key.public_key)
        self._key = key

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Ed25519Signer:
        """Make a signer from a 32-byte seed. Raises NoteError."""
        return cls(name, Ed25519Key(seed))

    def sign(self, text: bytes, time_s: int = 0) -> bytes:  # noqa: ARG002 - type has no time
        return self._key.sign(text)

    def verifier(self) -> Ed25519Verifier:
        return Ed25519Verifier(self.name, self._key.public_key)

    def seed(self) -> bytes:
        return self._key.seed()
