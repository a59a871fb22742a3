"""What every key of a note has: a name, an id, and a way to sign or to verify."""

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
    """A public key under a name; two are equal when both are.

    Raises NoteError for a name that is no key name or a key of a wrong form.
    """

    kind: ClassVar[SignatureType]
    __slots__ = ("key_id", "name", "public_key")

    def __init__(self, name: str, public_key: bytes) -> None:
        self.name = name
        self.public_key = public_key
        self.key_id = key_id(key_name(name), self.kind, public_key)

    @abstractmethod
    def verify(self, text: bytes, blob: bytes) -> int | None:
        """Hold a signature line's blob against a note text.

        Returns the POSIX time that the signature states in seconds, None for a
        type that states none. Raises InvalidSignature.
        """

    def vkey(self) -> str:
        """The key as text: ``name+hex(key id)+base64(type || public key)``."""
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
    """A private key under a name. It never shows in a repr."""

    kind: ClassVar[SignatureType]
    __slots__ = ("_prefix", "key_id", "name")

    def __init__(self, name: str, public_key: bytes) -> None:
        self.name = name
        # Kept ready: a log under thousands of names signs thousands of notes a second.
        self._prefix = line_prefix(name)
        self.key_id = key_id(name.encode(), self.kind, public_key)

    @abstractmethod
    def sign(self, text: bytes, time_s: int = 0) -> bytes:
        """The blob of a signature line over a note text.

        ``time_s`` is the POSIX time in seconds that a cosignature states; a plain
        Ed25519 signature states none. Raises NoteError for what it may not sign.
        """

    @abstractmethod
    def verifier(self) -> Verifier:
        """The public side of this key."""

    @abstractmethod
    def seed(self) -> bytes:
        """The 32 secret bytes that make this key."""

    def vkey(self) -> str:
        """The public side as text, see :meth:`Verifier.vkey`."""
        return self.verifier().vkey()

    def skey(self) -> str:
        """The private key as text, ``PRIVATE+KEY+name+hex(key id)+base64(type || seed)``."""
        key = binascii.b2a_base64(bytes([self.kind]) + self.seed(), newline=False)
        return f"PRIVATE+KEY+{self.name}+{self.key_id.hex()}+{key.decode()}"

    def line(self, text: bytes, time_s: int = 0) -> bytes:
        """The whole signature line over a text, with its newline."""
        return self._prefix + encode_blob(self.key_id + self.sign(text, time_s))

    def signature(self, text: bytes, time_s: int = 0) -> NoteSignature:
        """The signature line as a value."""
        return NoteSignature(self.name, self.key_id, self.sign(text, time_s))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.key_id.hex()})"
