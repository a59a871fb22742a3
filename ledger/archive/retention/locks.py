"""What is read of a locked target stays locked: for as long from now as the policy says.

A lock was set when an object was written, and may have ended since, or never have been: the
target was another then, or somebody put the object back. What is to be the only copy needs one
that holds from now on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from ledger.archive.targets import ListedObject, ObjectState, Target
from ledger.archive.writing.object_writer import ObjectLock
from ledger.errors import ArchiveObjectMissing

EXTENDED_AT_ONCE: Final = 8


def unprotected(locked: bool, policy: ObjectLock, accepted: bool) -> str | None:
    """Why nothing may leave the database for such an archive; None where it may.

    ``accepted``: the operator said that an archive which nothing locks will do.
    """
    if not locked:
        return (
            None
            if accepted
            else "nothing locks the archive, and what leaves the database is in no other place: "
            "archive in a bucket with Object Lock, or accept it by QUIRE_RETENTION_UNLOCKED=true"
        )
    if not policy.retain_days and not policy.legal_hold:
        return (
            "the archive's bucket locks what is stored, but not for how long: set "
            "QUIRE_ARCHIVE_RETAIN_DAYS or QUIRE_ARCHIVE_LEGAL_HOLD"
        )
    return None


class ObjectLocks:
    """Reads objects of a target, each in the version whose lock was looked at.

    Those that are under no legal hold, and retained for less than the policy's days from
    ``now_s`` (POSIX seconds), are remembered until :meth:`settle` locks them. Of an unlocked
    target objects are read as they are. Raises the target's errors.
    """

    def __init__(self, target: Target, policy: ObjectLock, now_s: float) -> None:
        self._target = target
        self._until = policy.until(now_s)
        self._hold = policy.legal_hold
        self._short: dict[str, ObjectState] = {}

    async def get(self, key: str, limit: int, version: str | None = None) -> bytes:
        """As the target's."""
        if not self._target.locked or version is not None:
            return await self._target.get(key, limit, version)
        held = await self.look(key)
        return await self._target.get(key, limit, held.version)

    def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        """As the target's."""
        return self._target.list(prefix)

    async def look(self, key: str) -> ObjectState:
        """What the target says of an object; remembered where its lock is short."""
        held = await self._target.head(key)
        if held is None:
            raise ArchiveObjectMissing(f"nothing is stored under {key!r}")
        if self._target.locked and not self._lasts(held):
            self._short[key] = held
        return held

    async def settle(self) -> None:
        """Lock what was looked at; returns once the target says that all of it is locked."""
        while self._short:
            some = list(self._short.values())[:EXTENDED_AT_ONCE]
            await asyncio.gather(
                *(self._target.extend(held, self._until, self._hold) for held in some)
            )
            for held in some:
                del self._short[held.key]

    def _lasts(self, held: ObjectState) -> bool:
        if held.legal_hold:
            return True
        until, wanted = held.retain_until, self._until
        return until is not None and wanted is not None and until >= wanted
