"""Authenticates callers: API keys and their principals.

A key is ``quire_live_<id>_<secret>``. Only a keyed hash of the secret is stored. Principals are
cached; a revocation reaches every server by NOTIFY, and no cached principal is kept longer than
``TTL_S`` even if the notifications are lost. A cached principal carries the end of its key.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from ledger import sealing
from ledger.bounded import BoundedCache
from ledger.core.register import API_KEYS
from ledger.entry import from_datetime, to_datetime
from ledger.storage.api_keys import ApiKeyRecord
from ledger.storage.asking import STRANGERS, Work, asking
from ledger.storage.database import Database
from server.access.keys.api_keys import ApiKeys
from server.access.keys.lookups import KeyLookups
from server.access.principal import NEVER_US, KeyValidity, Principal, Unauthorized
from server.access.rights import role_of
from server.addresses import networks

TTL_S: Final = 30.0
REFUSED_TTL_S: Final = 3.0
MAX_CACHED: Final = 100_000
MAX_REFUSED: Final = 10_000
"""Refused tokens have a cache of their own: they are as many as strangers care to make up."""
_TOKEN = re.compile(r"quire_live_([0-9a-f]{16})_([0-9a-f]{48})")


def no_longer_valid() -> Unauthorized:
    """Return the one error for keys that are unknown, mistyped, revoked or expired."""
    return Unauthorized(
        "this API key is not valid: it was mistyped or revoked, or has expired; an admin of the org "
        "can make a new one"
    )


class NewKey(NamedTuple):
    """A fresh API key: the token is shown once and never stored."""

    key_id: str
    token: str
    secret_hash: bytes


class KnownKey(NamedTuple):
    """The id of an API key, and of its org (None: the platform)."""

    id: str
    org_id: int | None


class Authenticator:
    """Finds the principal of a token."""

    def __init__(self, database: Database, master_key: bytes, validity: KeyValidity) -> None:
        self.validity = validity
        self._forged = validity.register.reports
        self.keys = ApiKeys(database, validity.register)
        self._unknown = KeyLookups(self.keys.found)
        self._pepper = sealing.derive(master_key, "api-keys")
        self._cache: BoundedCache[str, tuple[Principal, float]] = BoundedCache(MAX_CACHED)
        self._refused: BoundedCache[str, float] = BoundedCache(MAX_REFUSED)
        self._forgotten = 0

    def new_key(self) -> NewKey:
        """Return a new key with a secret of 192 bits."""
        key_id, secret = secrets.token_hex(8), secrets.token_hex(24)
        return NewKey(key_id, f"quire_live_{key_id}_{secret}", self._hash(secret))

    def read_key(self, token: str) -> NewKey | None:
        """Return the key of a token made earlier; None for other text."""
        match = _TOKEN.fullmatch(token)
        return None if match is None else NewKey(match[1], token, self._hash(match[2]))

    def _hash(self, secret: str) -> bytes:
        return hmac.digest(self._pepper, secret.encode(), "sha256")

    def known_key(self, token: str) -> KnownKey | None:
        """Return the key that a token names, valid or not; None for an id that no key ever had.

        It asks the register alone, as far as it is folded: a stranger's guesses cost no query.
        """
        match = _TOKEN.fullmatch(token)
        state = self.validity.register.state
        if match is None or state.newest_mac(API_KEYS, match[1]) is None:
            return None
        return KnownKey(match[1], state.org_of(API_KEYS, match[1]))

    def cached(self, token: str) -> Principal | None:
        """Return the cached principal of a token; None if there is none, or it expired."""
        found = self._cache.get(token)
        if found is None or found[1] < time.monotonic():
            return None
        principal = found[0]
        return principal if self.validity.is_current(principal) else None

    def owner_of(self, token: str) -> int | str | None:
        """Return the owner of a token that was valid when it was last looked up, None for others.

        It says whose turn it is, and lets nobody in.
        """
        found = self._cache.get(token)
        return None if found is None else found[0].owner

    def _is_refused(self, token: str) -> bool:
        """Return whether a token was found invalid a moment ago."""
        return (self._refused.get(token) or 0) >= time.monotonic()

    async def principal(self, token: str) -> Principal:
        """Return the principal of a token. Raises Unauthorized, always with the same message."""
        principal = self.cached(token)
        if principal is None and not self._is_refused(token):
            principal = await self._look_up(token)
        if principal is None:
            raise no_longer_valid()
        return principal

    async def renewed(self, principal: Principal) -> Principal | None:
        """Return a principal that was admitted as it is now; None if its key is no longer valid."""
        with asking(Work.VITAL, principal.owner):
            record = await self.keys.find(principal.key_id)
        return None if record is None else self._principal(record)

    async def _look_up(self, token: str) -> Principal | None:
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None  # without a query, and not cached: such texts are unbounded in number
        forgotten = self._forgotten
        known = self._cache.get(token)
        # A caller that was known a moment ago does not wait behind those who guess.
        with asking(Work.VITAL, STRANGERS if known is None else known[0].owner):
            find = self._unknown.find if known is None else self.keys.find
            record = await find(match[1])
            principal = self._check(record, match[2])
            if record is None and self.keys.was_removed(match[1]):
                await self._forged.store(None, f"the row of API key {match[1]} was removed")
            if record is not None and not record.is_authentic:
                await self._report(record)
        # A record read before a revocation must not be cached after it.
        if forgotten == self._forgotten:
            self._remember(token, principal)
        return principal

    def _remember(self, token: str, principal: Principal | None) -> None:
        if principal is None:
            self._cache.pop(token)
            self._refused.put(token, time.monotonic() + REFUSED_TTL_S)
        else:
            self._refused.pop(token)
            self._cache.put(token, (principal, time.monotonic() + TTL_S))

    def _check(self, record: ApiKeyRecord | None, secret: str) -> Principal | None:
        if record is None or not hmac.compare_digest(record.row.secret_hash, self._hash(secret)):
            return None
        return self._principal(record)

    def is_valid(self, record: ApiKeyRecord) -> bool:
        """Return whether requests with a key are let in now, from its addresses."""
        return record.is_valid(to_datetime(self.validity.now_us()))

    def _principal(self, record: ApiKeyRecord) -> Principal | None:
        row, role = record.row, role_of(record.row.role)
        if role is None or not self.is_valid(record):
            return None
        return Principal(
            row.id,
            row.org_id,
            role,
            record.mac.hex(),
            record.revocations,
            record.system_revocations,
            NEVER_US if row.expires_at is None else from_datetime(row.expires_at),
            networks(row.allowed_cidrs),
        )

    async def _report(self, record: ApiKeyRecord) -> None:
        """Report a row that this server did not write; its key is refused like an unknown one."""
        detail = (
            f"the row of API key {record.id} was changed, made or put back in the database: the key "
            "is refused. Make another one, and find out who can write to the database"
        )
        await self._forged.store(record.org_id, detail)

    def forget(self, key_id: str) -> None:
        """Drop a revoked or changed key from the cache."""
        self._forgotten += 1
        marker = f"quire_live_{key_id}_"
        for token in [token for token in self._cache if token.startswith(marker)]:
            self._cache.pop(token)

    def forget_all(self) -> None:
        """Drop all keys from the cache: revocations may have been missed."""
        self._forgotten += 1
        self._cache.clear()
        self._refused.clear()


def token_of(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the token in a request's headers, given by lower-case name, or None."""
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, rest = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            return rest.strip().decode("latin-1")
    token = headers.get(b"x-api-key")
    return None if token is None else token.strip().decode("latin-1")
