"""Cosignatures with ML-DSA-44, type 0x06 (C2SP tlog-cosignature, "ML-DSA-44 signed message").

The blob is ``timestamp (u64) || ML-DSA-44 signature (2420)``. The signature, with an
empty context (FIPS 204 section 5.2), covers::

    "subtree/v1\\n\\0"       12 bytes
    cosigner_name           1 length byte, 1 to 255 bytes
    timestamp               u64
    log_origin              1 length byte, 1 to 255 bytes
    start, end              u64 each; for a checkpoint, 0 and its size
    hash                    32 bytes, the root

It does not cover extension lines, so a checkpoint with extension lines is neither
signed nor accepted: readers of a note trust its whole text.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature as _DoesNotVerify
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from ledger.errors import InvalidSignature, NoteError
from ledger.note.cosignature import (
    checkpoint_to_sign,
    encode_timestamp,
    signed_checkpoint,
    split_timestamp,
)
from ledger.note.keys import Signer, Verifier
from ledger.note.signature import SignatureType, key_name
from ledger.note.tree_head import ORIGIN_BYTES_MAX, ROOT_BYTES, SIZE_MAX, TreeHead

SEED_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 1312
SIGNATURE_BYTES: Final = 2420
_LABEL: Final = b"subtree/v1\n\x00"
_EMPTY_ROOT: Final = sha256().digest()
_NO_MLDSA: Final = (
    "this build of the cryptography package has no ML-DSA; install version 50 or newer"
)


def cosigned_message(
    cosigner_name: str, time_s: int, log_origin: str, start: int, end: int, root: bytes
) -> bytes:
    """Build the ``cosigned_message`` structure. Raises NoteError for values it can't hold."""
    if not 0 <= start <= end <= SIZE_MAX:
        raise NoteError(f"[{start}, {end}) is not a range of leaves")
    if start == end and root != _EMPTY_ROOT:
        raise NoteError("the root of an empty tree must be SHA-256 of nothing (RFC 6962)")
    if start and time_s:
        raise NoteError("a subtree that does not begin at 0 must be signed without a time")
    if len(root) != ROOT_BYTES:
        raise NoteError(f"a root hash has {ROOT_BYTES} bytes, not {len(root)}")
    return b"".join(
        (
            _LABEL,
            _opaque(key_name(cosigner_name), "cosigner's name"),
            encode_timestamp(time_s),
            _opaque(log_origin.encode(), "log's origin"),
            start.to_bytes(8, "big"),
            end.to_bytes(8, "big"),
            root,
        )
    )


class MlDsaKey:
    """An ML-DSA-44 private key, made once from its 32-byte seed (FIPS 204 section 6.1)."""

    __slots__ = ("_key", "public_key")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise NoteError(f"an ML-DSA-44 seed has {SEED_BYTES} bytes, not {len(seed)}")
        try:
            self._key = MLDSA44PrivateKey.from_seed_bytes(seed)
        except UnsupportedAlgorithm:
            raise NoteError(_NO_MLDSA) from None
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the signature: 2420 bytes, hedged, so different each time (FIPS 204, 3.4)."""
        return self._key.sign(message)

    def seed(self) -> bytes:
        return self._key.private_bytes_raw()

    def __repr__(self) -> str:
        return f"MlDsaKey(public_key={self.public_key[:16].hex()}…)"


def load_public_key(public_key: bytes) -> MLDSA44PublicKey:
    """Load an ML-DSA-44 public key. Raises NoteError for bytes that are not one."""
    try:
        return MLDSA44PublicKey.from_public_bytes(public_key)
    except ValueError:
        raise NoteError(
            f"an ML-DSA-44 public key has {PUBLIC_KEY_BYTES} bytes, not {len(public_key)}"
        ) from None
    except UnsupportedAlgorithm:
        raise NoteError(_NO_MLDSA) from None


def check_signature(key: MLDSA44PublicKey, name: str, signature: bytes, message: bytes) -> None:
    """Verify a signature. Raises InvalidSignature, which names the key."""
    try:
        key.verify(signature, message)
    except (_DoesNotVerify, ValueError):
        raise InvalidSignature(f"the ML-DSA-44 signature by {name!r} does not verify") from None


class MlDsaVerifier(Verifier):
    """Verifies cosignatures of type 0x06, over checkpoints without extension lines."""

    kind = SignatureType.ML_DSA_44_COSIGNATURE
    __slots__ = ("_key",)

    def __init__(self, name: str, public_key: bytes) -> None:
        super().__init__(name, public_key)
        _opaque(key_name(name), "cosigner's name")
        self._key = load_public_key(public_key)

    def verify(self, text: bytes, blob: bytes) -> int:
        time_s, signature = split_timestamp(self.name, blob, SIGNATURE_BYTES)
        checkpoint = signed_checkpoint(self.name, text)
        try:
            message = _checkpoint_message(self.name, time_s, checkpoint)
        except NoteError as error:
            raise InvalidSignature(
                f"{self.name!r} can't have signed this checkpoint: {error}"
            ) from None
        check_signature(self._key, self.name, signature, message)
        return time_s


class MlDsaSigner(Signer):
    """Cosigns checkpoints with type 0x06; a log also signs its own checkpoints with it.

    A time of 0 makes no statement that the tree was the largest known at a time.
    """

    kind = SignatureType.ML_DSA_44_COSIGNATURE
    __slots__ = ("_key",)

    def __init__(self, name: str, key: MlDsaKey) -> None:
        super().__init__(name, key.public_key)
        _opaque(key_name(name), "cosigner's name")
        self._key = key

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> MlDsaSigner:
        """Make a cosigner from a 32-byte seed. Raises NoteError."""
        return cls(name, MlDsaKey(seed))

    def sign(self, text: bytes, time_s: int = 0) -> bytes:
        """Cosign a checkpoint. Raises NoteError for another text, or for extension lines."""
        message = _checkpoint_message(self.name, time_s, checkpoint_to_sign(text))
        return encode_timestamp(time_s) + self._key.sign(message)

    def verifier(self) -> MlDsaVerifier:
        return MlDsaVerifier(self.name, self._key.public_key)

    def seed(self) -> bytes:
        return self._key.seed()


def _checkpoint_message(name: str, time_s: int, checkpoint: TreeHead) -> bytes:
    if checkpoint.extensions:
        raise NoteError("an ML-DSA-44 cosignature does not cover extension lines")
    return cosigned_message(name, time_s, checkpoint.origin, 0, checkpoint.size, checkpoint.root)


def _opaque(content: bytes, name: str) -> bytes:
    """Encode a vector ``<1..2^8-1>`` of RFC 8446 section 3.4. Raises NoteError."""
    if not 1 <= len(content) <= ORIGIN_BYTES_MAX:
        raise NoteError(
            f"an ML-DSA-44 cosignature needs a {name} of 1 to {ORIGIN_BYTES_MAX} bytes, "
            f"not {len(content)}"
        )
    return bytes([len(content)]) + content
