"""Extends the locks of objects that were read, for as long from now as the policy says.

A lock is set when an object is written. It may have ended since, or never have been set, as
where the target was unlocked then or an operator restored the object. An object that is about to
be the only copy needs a lock from now on.
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
    """Return why the archive does not protect entries well enough to drop them, or None.

    ``accepted``: the operator accepts an archive without locks.
    """
    if not locked:
        return (
            None
            if accepted
            else "the archive has no locks, and dropped entries are in no other place: archive in "
            "a bucket with Object Lock, or accept it with QUIRE_RETENTION_UNLOCKED=true"
        )
    if not policy.retain_days and not policy.legal_hold:
        return (
            "no setting says how long the archive's bucket is to lock objects: set "
            "QUIRE_ARCHIVE_RETAIN_DAYS or QUIRE_ARCHIVE_LEGAL_HOLD"
        )
    return None


class ObjectLocks:
    """Reads objects of a target, each in the version whose lock was checked.

    Objects without a legal hold, and retained for less than the policy's days from ``now_s``
    (POSIX seconds), are remembered until :meth:`extend` locks them. On an unlocked target
    objects are only read. Raises the target's errors.
    """

    def __init__(self, target: Target, policy: ObjectLock, now_s: float) -> None:
        self._target = target
        self._until = policy.until(now_s)
        self._hold = policy.legal_hold
        self._short: dict[str, ObjectState] = {}

    async def get(self, key: str, limit: int, version: str | None = None) -> bytes:
        """Read an object as the target does, after checking its lock."""
        if not self._target.locked or version is not None:
            return await self._target.get(key, limit, version)
        state = await self.check(key)
        return await self._target.get(key, limit, state.version)

    def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        """List objects as the target does."""
        return self._target.list(prefix)

    async def check(self, key: str) -> ObjectState:
        """Return the state of an object; remember it where its lock is short."""
        state = await self._target.head(key)
        if state is None:
            raise ArchiveObjectMissing(f"nothing is stored under {key!r}")
        if self._target.locked and not self._lasts(state):
            self._short[key] = state
        return state

    async def extend(self) -> None:
        """Lock the remembered objects; return once the target reports all of them as locked."""
        while self._short:
            batch = list(self._short.values())[:EXTENDED_AT_ONCE]
            # A crash here leaves some objects locked for longer. The next run checks them again
            # and extends the locks that are short then.
            await asyncio.gather(
                *(self._target.extend(state, self._until, self._hold) for state in batch)
            )
            for state in batch:
                del self._short[state.key]

    def _lasts(self, state: ObjectState) -> bool:
        if state.legal_hold:
            return True
        until, required = state.retain_until, self._until
        return until is not None and required is not None and until >= required
