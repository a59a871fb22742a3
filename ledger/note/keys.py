"""The base classes of note keys: a name, a key id, and the operation to sign or verify."""

from __future__ import annotations

import binascii
from abc import ABC, abstractmethod
from typing import ClassVar

from ledger.note.signature import (
    NoteSignature,
    SignatureType,
    encode_blob,
    key_id,
    key_name,
    line_prefix,
)


class Verifier(ABC):
    """A public key under a name; verifiers are equal if type, name and key are.

    Raises NoteError for an invalid key name or a malformed key.
    """

    kind: ClassVar[SignatureType]
    __slots__ = ("key_id", "name", "public_key")

    def __init__(self, name: str, public_key: bytes) -> None:
        self.name = name
        self.public_key = public_key
        self.key_id = key_id(key_name(name), self.kind, public_key)

    @abstractmethod
    def verify(self, text: bytes, blob: bytes) -> int | None:
        """Verify a signature line's blob over a note text.

        Returns the signature's POSIX time in seconds, None for a type without a
        time. Raises InvalidSignature.
        """

    def vkey(self) -> str:
        """Return the key as text: ``name+hex(key id)+base64(type || public key)``."""
        key = binascii.b2a_base64(bytes([self.kind]) + self.public_key, newline=False)
        return f"{self.name}+{self.key_id.hex()}+{key.decode()}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Verifier):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.key_id.hex()})"

    def _identity(self) -> tuple[SignatureType, str, bytes]:
        return self.kind, self.name, self.public_key


class Signer(ABC):
    """A private key under a name. A repr never shows the key."""

    kind: ClassVar[SignatureType]
    __slots__ = ("_prefix", "key_id", "name")

    def __init__(self, name: str, public_key: bytes) -> None:
        self.name = name
        # Computed once: a log with thousands of names signs thousands of notes a second.
        self._prefix = line_prefix(name)
        self.key_id = key_id(name.encode(), self.kind, public_key)

    @abstractmethod
    def sign(self, text: bytes, time_s: int = 0) -> bytes:
        """Return the blob of a signature line over a note text.

        ``time_s`` is the POSIX time of a cosignature in seconds; a plain Ed25519
        signature has no time. Raises NoteError for a text or time it must not sign.
        """

    @abstractmethod
    def verifier(self) -> Verifier:
        """Return the public side of this key."""

    @abstractmethod
    def seed(self) -> bytes:
        """Return the 32 secret bytes from which this key is made."""

    def vkey(self) -> str:
        """Return the public side as text, see :meth:`Verifier.vkey`."""
        return self.verifier().vkey()

    def skey(self) -> str:
        """Return the private key as text, ``PRIVATE+KEY+name+hex(key id)+base64(type || seed)``."""
        key = binascii.b2a_base64(bytes([self.kind]) + self.seed(), newline=False)
        return f"PRIVATE+KEY+{self.name}+{self.key_id.hex()}+{key.decode()}"

    def line(self, text: bytes, time_s: int = 0) -> bytes:
        """Return the whole signature line over a text, with its newline."""
        return self._prefix + encode_blob(self.key_id + self.sign(text, time_s))

    def signature(self, text: bytes, time_s: int = 0) -> NoteSignature:
        """Return the signature line as a value."""
        return NoteSignature(self.name, self.key_id, self.sign(text, time_s))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.key_id.hex()})"
