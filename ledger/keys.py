"""The signing keyring: HMAC-SHA256 keys by id, exactly one active.

``signature = HMAC-SHA256(key, entry_hash)`` (RFC 2104, FIPS 198-1). Rotation
adds a key and activates it; all older keys stay, so that all history verifies.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from ledger.errors import AmbiguousActiveKey, KeyringError, MissingKey, UnknownKey, WeakKey

MIN_KEY_BYTES: Final = 32
MAX_KEYS: Final = 1_000
_KEY_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class SigningKey:
    """One HMAC-SHA256 key with its keyed hash state.

    Copying the keyed state costs a third of ``hmac.digest``. The secret never
    appears in a repr.
    """

    __slots__ = ("_keyed", "key_id", "secret")

    def __init__(self, key_id: str, secret: bytes) -> None:
        if not _KEY_ID.fullmatch(key_id):
            # The message omits the id: it may be the secret, written into the wrong field.
            raise KeyringError(
                "a signing key id must have 1 to 64 characters of a-z, 0-9, '.', '_' and '-'"
            )
        if len(secret) < MIN_KEY_BYTES:
            raise WeakKey(
                f"signing key {key_id!r} has {len(secret)} bytes; it needs at least "
                f"{MIN_KEY_BYTES}. {HOW_TO_MAKE_A_KEY}"
            )
        self.key_id = key_id
        self.secret = secret
        self._keyed = HMAC(secret, SHA256())

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id!r})"

    @property
    def fingerprint(self) -> str:
        """12 hex digits that tell the secret from others, and reveal nothing about a random one."""
        return _fingerprint(self.secret)

    def sign(self, entry_hash: bytes) -> bytes:
        """Return the HMAC-SHA256 of the 32-byte entry hash: 32 bytes."""
        keyed = self._keyed.copy()
        keyed.update(entry_hash)
        return keyed.finalize()

    def verify(self, entry_hash: bytes, signature: bytes) -> bool:
        """Return whether this key made the signature of the hash, compared in constant time."""
        return hmac.compare_digest(self.sign(entry_hash), signature)


HOW_TO_MAKE_A_KEY: Final = (
    'Make one with: python3 -c "import secrets; print(secrets.token_hex(32))"'
)


def env_key_id(secret: bytes) -> str:
    """Return the id of a key given as a bare secret: stable, and revealing nothing about it."""
    return f"env-{_fingerprint(secret)}"


def _fingerprint(secret: bytes) -> str:
    return hashlib.sha256(b"quire signing key id\x00" + secret).hexdigest()[:12]


class SigningKeyring:
    """Signing keys by id, one active.

    Raises MissingKey for an empty ring, AmbiguousActiveKey unless exactly one key
    is active, KeyringError for a repeated id or too many keys.
    """

    def __init__(self, keys: Iterable[SigningKey], active: Iterable[str]) -> None:
        self._keys: dict[str, SigningKey] = {}
        for key in keys:
            if key.key_id in self._keys:
                raise KeyringError(
                    f"the keyring has two keys with the id {key.key_id!r}; give each its own id"
                )
            self._keys[key.key_id] = key
        if len(self._keys) > MAX_KEYS:
            raise KeyringError(f"a keyring holds at most {MAX_KEYS} keys, not {len(self._keys)}")
        if not self._keys:
            raise MissingKey(f"the signing keyring holds no key. {HOW_TO_MAKE_A_KEY}")
        chosen = list(active)
        if len(chosen) != 1:
            raise AmbiguousActiveKey(
                f"exactly one signing key must be active, but {len(chosen)} are"
                f'{": " + ", ".join(chosen) if chosen else ""}. Set "active": true on one key only'
            )
        self.active = self.get(chosen[0])

    @classmethod
    def from_secret(cls, secret: bytes, key_id: str | None = None) -> SigningKeyring:
        """Make a ring of one key from a bare secret. Raises WeakKey below 32 bytes."""
        key = SigningKey(key_id or env_key_id(secret), secret)
        return cls([key], [key.key_id])

    def get(self, key_id: str) -> SigningKey:
        """Return the key with this id. Raises UnknownKey."""
        key = self._keys.get(key_id)
        if key is None:
            raise UnknownKey(key_id)
        return key

    def ids(self) -> list[str]:
        """Return all key ids, oldest first."""
        return list(self._keys)

    def keys(self) -> list[SigningKey]:
        """Return all keys, oldest first."""
        return list(self._keys.values())

    def rotated(self, new: SigningKey) -> SigningKeyring:
        """Return a ring with the new key added and active; this ring is unchanged."""
        return SigningKeyring([*self._keys.values(), new], [new.key_id])

    def activated(self, key_id: str) -> SigningKeyring:
        """Return a ring that signs with another of its keys. Raises UnknownKey."""
        return SigningKeyring(self._keys.values(), [self.get(key_id).key_id])

    def with_key(self, extra: SigningKey) -> SigningKeyring:
        """Return a ring that also verifies with an extra, older key; the active key stays.

        Raises KeyringError if the ring holds another secret under that id.
        """
        if self._holds(extra):
            return self
        return SigningKeyring([extra, *self._keys.values()], [self.active.key_id])

    def with_keys(self, newer: Iterable[SigningKey]) -> SigningKeyring:
        """Return a ring that also has these keys, after its own; the active key stays.

        Raises KeyringError if the ring holds another secret under the id of one.
        """
        added = [key for key in newer if not self._holds(key)]
        return SigningKeyring([*self._keys.values(), *added], [self.active.key_id])

    def _holds(self, key: SigningKey) -> bool:
        """Return whether the ring has this key. Raises KeyringError for another one of its id."""
        known = self._keys.get(key.key_id)
        if known is not None and not hmac.compare_digest(known.secret, key.secret):
            raise KeyringError(
                f"the keyring already has a signing key {key.key_id!r} with another "
                "secret; give one of the two keys another id"
            )
        return known is not None


class _KeyRecord(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    secret: str
    active: bool = False


class _KeyringFile(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[_KeyRecord]


def parse_keyring(data: bytes) -> SigningKeyring:
    """Parse a keyring file: ``{"keys": [{"id", "secret" (base64), "active"}, …]}``.

    Raises KeyringError or one of its subclasses; no message holds a secret.
    """
    try:
        records = msgspec.json.decode(data, type=_KeyringFile).keys
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise KeyringError(
            "the keyring file can't be read; it must be JSON of this form: "
            '{"keys": [{"id": "…", "secret": "<base64>", "active": true}]}'
        ) from None
    keys = [SigningKey(record.id, _secret(record, n)) for n, record in enumerate(records, 1)]
    return SigningKeyring(keys, [record.id for record in records if record.active])


def dump_keyring(ring: SigningKeyring) -> bytes:
    """Return the keyring as the file that :func:`parse_keyring` reads."""
    records = [
        _KeyRecord(key.key_id, base64.b64encode(key.secret).decode(), key is ring.active)
        for key in ring.keys()
    ]
    return msgspec.json.format(msgspec.json.encode(_KeyringFile(records)), indent=2) + b"\n"


def _secret(record: _KeyRecord, number: int) -> bytes:
    try:
        return base64.b64decode(record.secret, validate=True)
    except ValueError:
        raise KeyringError(
            f"the secret of key number {number} in the keyring file is not base64"
        ) from None
