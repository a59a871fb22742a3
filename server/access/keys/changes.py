"""Changes of API keys, each in one transaction with its entry in the trail `system`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from ledger.core.register import API_KEYS, Change, ChangeKind
from ledger.core.register.changes import SERVER, row
from ledger.core.sequencer import RowEffect
from ledger.entry import rfc3339, to_datetime
from ledger.errors import AppendRefused, ProblemType
from ledger.storage import api_keys
from ledger.storage.api_keys import ApiKeyRecord, ApiKeyRow
from ledger.storage.trail import AppendTransaction
from server.access.administration import Administration, Conflict
from server.access.auth import NewKey
from server.access.principal import Principal

LIFETIME: Final = timedelta(days=90)
"""How long a key is valid, if nobody says."""
LONGEST: Final = timedelta(days=365)
SHORTEST: Final = timedelta(days=1)
MAX_KEYS: Final = 1_000


class TooManyKeys(AppendRefused):
    """The org has as many valid keys as it may have."""

    problem_type = ProblemType(
        "too-many-keys",
        409,
        "The org has too many API keys",
        "this org has 1,000 valid API keys, which is the limit: revoke keys that nobody uses "
        "(quire keys list --unused 90 names them), or let them expire",
    )


class KeyEnded(AppendRefused):
    """The key to be changed was revoked, rotated or changed meanwhile, or has expired."""

    problem_type = ProblemType(
        "key-ended",
        409,
        "The API key can't be changed any more",
        "API key 9f86d081884c7d65 was rotated before: 0f1e2d3c4b5a6978 replaces it",
    )


class AskedKey(NamedTuple):
    """A key to be made: ``lifetime`` None is one that never expires; ``allowed_cidrs`` "" any address."""

    id: str
    org_id: int | None
    name: str
    role: str
    secret_hash: bytes
    lifetime: timedelta | datetime | None = LIFETIME
    allowed_cidrs: str = ""

    def row(self, now: datetime, actor: str) -> ApiKeyRow:
        """Return the row of the key, made at a time by an actor."""
        ends = now + self.lifetime if isinstance(self.lifetime, timedelta) else self.lifetime
        return ApiKeyRow(*self[:5], now, actor, ends, self.allowed_cidrs)


class KeyChanges:
    """Writes API keys; ``most`` is how many of an org may be valid at once.

    Its methods raise as :meth:`Administration.record` does.
    """

    def __init__(self, administration: Administration, most: int = MAX_KEYS) -> None:
        self._administration = administration
        self._most = most

    def now(self) -> datetime:
        """Return the time at which a change is made. Raises ClockUnsteady."""
        return to_datetime(self._administration.sequencer.clock())

    async def add(
        self, asked: AskedKey, slug: str | None, actor: str = SERVER, *, by: Principal | None = None
    ) -> ApiKeyRow:
        """Store a new API key of an org, or of the platform. Raises TooManyKeys, Conflict."""
        key = asked.row(self.now(), actor)
        mac = key.mac(self._administration.register.row_key)

        async def refusal(transaction: AppendTransaction) -> AppendRefused:
            if key.org_id is not None:
                counting = api_keys.live_keys(transaction.connection, key.org_id, key.created_at)
                if await transaction.run(counting) >= self._most:
                    return self._too_many()
            return Conflict("the key's id is taken, or its org is gone; try again")

        effect = RowEffect(api_keys.creation(key, mac, self._most), refusal)
        change = Change([row(API_KEYS, key.id, mac)], org_id=key.org_id)
        kind, told = ChangeKind.KEY_CREATED, about(key, slug)
        await self._administration.record(kind, change, told, effect, actor, by=by)
        return key

    async def revoke(
        self,
        key: ApiKeyRecord,
        slug: str | None,
        actor: str = SERVER,
        *,
        by: Principal | None = None,
    ) -> bool:
        """Revoke an API key, and notify every server; False if it was changed meanwhile.

        Once this returns, no process writes anything more for the key (:mod:`server.access.permits`).
        """
        revoked = key.row._replace(revoked_at=self.now())
        try:
            await self._replace(ChangeKind.KEY_REVOKED, key, revoked, slug, actor, by)
        except KeyEnded:
            return False
        return True

    async def change(
        self,
        key: ApiKeyRecord,
        slug: str,
        actor: str,
        *,
        name: str | None = None,
        allowed_cidrs: str | None = None,
        by: Principal | None = None,
    ) -> ApiKeyRow:
        """Change the name of a valid key, or its addresses; None leaves them. Raises KeyEnded."""
        self._require_valid(key)
        changed = key.row._replace(
            name=key.row.name if name is None else name,
            allowed_cidrs=key.row.allowed_cidrs if allowed_cidrs is None else allowed_cidrs,
        )
        await self._replace(ChangeKind.KEY_CHANGED, key, changed, slug, actor, by)
        return changed

    async def rotate(
        self,
        key: ApiKeyRecord,
        new: NewKey,
        slug: str,
        actor: str,
        *,
        overlap: timedelta,
        may_last: bool,
        by: Principal | None = None,
    ) -> tuple[ApiKeyRow, ApiKeyRow]:
        """Replace a valid key by a new one of the same name, role, addresses and lifetime.

        The old key ends after the ``overlap``, if not before. A key that never expires gets one that
        does, unless it ``may_last``. Returns the new key and the old one. Raises KeyEnded,
        TooManyKeys.
        """
        now = self._require_valid(key)
        old = key.row
        lifetime = None if old.expires_at is None else old.expires_at - old.created_at
        if lifetime is None and not may_last:
            lifetime = LIFETIME
        asked = AskedKey(
            new.key_id, old.org_id, old.name, old.role, new.secret_hash, lifetime, old.allowed_cidrs
        )
        successor, end = asked.row(now, actor), now + overlap
        ended = old._replace(
            expires_at=end if old.expires_at is None else min(end, old.expires_at),
            rotated_to=new.key_id,
        )
        await self._replace(ChangeKind.KEY_ROTATED, key, ended, slug, actor, by, successor)
        return successor, ended

    def _require_valid(self, key: ApiKeyRecord) -> datetime:
        """Return the time; raise KeyEnded for a key that can't be changed any more."""
        now, found = self.now(), key.row
        if found.revoked_at is not None:
            raise KeyEnded(f"API key {key.id} was revoked at {rfc3339(found.revoked_at)}")
        if found.rotated_to is not None:
            raise KeyEnded(
                f"API key {key.id} was rotated before: {found.rotated_to} replaces it. If that key is "
                "lost, an admin of the org can make another one"
            )
        if found.expires_at is not None and found.expires_at <= now:
            raise KeyEnded(f"API key {key.id} expired at {rfc3339(found.expires_at)}")
        return now

    async def _replace(
        self,
        kind: ChangeKind,
        key: ApiKeyRecord,
        changed: ApiKeyRow,
        slug: str | None,
        actor: str,
        by: Principal | None,
        successor: ApiKeyRow | None = None,
    ) -> None:
        """Write the new row of a key, and its ``successor``. Raises KeyEnded, TooManyKeys."""
        row_key = self._administration.register.row_key
        mac = changed.mac(row_key)
        rows, told = [row(API_KEYS, key.id, mac)], about(changed, slug)
        if successor is not None:
            rows.append(row(API_KEYS, successor.id, successor.mac(row_key)))
            told["rotated_to"] = about(successor, slug)

        async def effect(transaction: AppendTransaction) -> AppendRefused | None:
            connection = transaction.connection
            if not await transaction.run(api_keys.change(connection, changed, mac, key.mac)):
                return KeyEnded(
                    f"API key {key.id} was changed by another request: look at it, and try again"
                )
            if successor is None or successor.org_id is None:
                return None
            # Both are valid for a while. A key that was rotated is not counted against the limit,
            # so that a full org can rotate; but there are at most as many of these again.
            counting = api_keys.live_keys(
                connection, successor.org_id, successor.created_at, rotated=True
            )
            if await transaction.run(counting) >= 2 * self._most:
                return self._too_many()
            await transaction.run(api_keys.succeed(connection, successor, successor.mac(row_key)))
            return None

        locks = () if key.org_id is None else [key.org_id]
        change = Change(rows, org_id=key.org_id)
        await self._administration.append_with(
            [], kind, change, told, actor, effect=effect, by=by, locks=locks
        )

    def _too_many(self) -> TooManyKeys:
        return TooManyKeys(
            f"this org has {self._most:,} valid API keys, which is the limit: revoke keys that nobody "
            "uses (quire keys list --unused 90 names them), or let them expire"
        )


def about(key: ApiKeyRow, slug: str | None) -> dict[str, object]:
    """Return what an entry about a change tells people of a key."""
    expires = None if key.expires_at is None else rfc3339(key.expires_at)
    return {
        "org": slug,
        "key": key.id,
        "name": key.name,
        "role": key.role,
        "expires_at": expires,
        "allowed_cidrs": [each for each in key.allowed_cidrs.split(",") if each],
    }
