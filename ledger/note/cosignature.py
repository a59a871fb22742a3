"""Cosignatures with Ed25519, type 0x04 (C2SP tlog-cosignature, "Ed25519 signed message").

The blob is ``timestamp (u64) || Ed25519 signature (64)``. The signature covers two
lines, ``cosignature/v1`` and ``time <timestamp>``, and the whole checkpoint text
after them. That message does not name the cosigner: one key serves one cosigner.
"""

from __future__ import annotations

from typing import Final

from ledger.errors import CheckpointError, InvalidSignature, NoteError
from ledger.note.ed25519 import (
    SIGNATURE_BYTES,
    Ed25519Key,
    check_signature,
    load_public_key,
)
from ledger.note.keys import Signer, Verifier
from ledger.note.signature import SignatureType
from ledger.note.tree_head import TreeHead, parse_checkpoint

TIMESTAMP_BYTES: Final = 8
TIME_MAX_S: Final = 2**63 - 1


class CosignatureVerifier(Verifier):
    """Verifies cosignatures of type 0x04, and that the signed text is a checkpoint."""

    kind = SignatureType.ED25519_COSIGNATURE
    __slots__ = ("_key",)

    def __init__(self, name: str, public_key: bytes) -> None:
        super().__init__(name, public_key)
        self._key = load_public_key(public_key)

    def verify(self, text: bytes, blob: bytes) -> int:
        time_s, signature = split_timestamp(self.name, blob, SIGNATURE_BYTES)
        signed_checkpoint(self.name, text)
        check_signature(self._key, self.name, signature, _message(text, time_s))
        return time_s


class CosignatureSigner(Signer):
    """Cosigns checkpoints with type 0x04, at a time that the caller gives."""

    kind = SignatureType.ED25519_COSIGNATURE
    __slots__ = ("_key",)

    def __init__(self, name: str, key: Ed25519Key) -> None:
        super().__init__(name, key.public_key)
        self._key = key

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> CosignatureSigner:
        """Make a cosigner from a 32-byte seed. Raises NoteError."""
        return cls(name, Ed25519Key(seed))

    def sign(self, text: bytes, time_s: int = 0) -> bytes:
        """Cosign a checkpoint text. Raises NoteError for another text, or an invalid time."""
        if time_s == 0:
            raise NoteError("an Ed25519 cosignature needs a time after 0 seconds")
        timestamp = encode_timestamp(time_s)
        checkpoint_to_sign(text)
        return timestamp + self._key.sign(_message(text, time_s))

    def verifier(self) -> CosignatureVerifier:
        return CosignatureVerifier(self.name, self._key.public_key)

    def seed(self) -> bytes:
        return self._key.seed()


def encode_timestamp(time_s: int) -> bytes:
    """Encode POSIX seconds as a u64. Raises NoteError outside of 0 to 2^63-1."""
    if not 0 <= time_s <= TIME_MAX_S:
        raise NoteError(f"a cosignature's time must be 0 to 2^63-1 seconds, not {time_s}")
    return time_s.to_bytes(TIMESTAMP_BYTES, "big")


def split_timestamp(name: str, blob: bytes, signature_bytes: int) -> tuple[int, bytes]:
    """Return time in seconds and signature of a cosignature's blob. Raises InvalidSignature."""
    if len(blob) != TIMESTAMP_BYTES + signature_bytes:
        raise InvalidSignature(
            f"the cosignature by {name!r} has {len(blob)} bytes, "
            f"not {TIMESTAMP_BYTES + signature_bytes}"
        )
    time_s = int.from_bytes(blob[:TIMESTAMP_BYTES], "big")
    if time_s > TIME_MAX_S:
        raise InvalidSignature(f"the cosignature by {name!r} states a time after 2^63-1 seconds")
    return time_s, blob[TIMESTAMP_BYTES:]


def checkpoint_to_sign(text: bytes) -> TreeHead:
    """Parse the checkpoint that a cosigner is about to sign. Raises NoteError."""
    try:
        return parse_checkpoint(text)
    except CheckpointError as error:
        raise NoteError(f"only a checkpoint can be cosigned: {error}") from None


def signed_checkpoint(name: str, text: bytes) -> TreeHead:
    """Parse the checkpoint under a cosignature. Raises InvalidSignature for any other text."""
    try:
        return parse_checkpoint(text)
    except CheckpointError as error:
        raise InvalidSignature(
            f"{name!r} cosigned a text that is not a checkpoint: {error}"
        ) from None


def _message(text: bytes, time_s: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % time_s + text
