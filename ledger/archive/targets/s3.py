"""A bucket as the target of archives: written once, locked, read back, and only then counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from typing import Self, TypeVar

import msgspec
import stamina

from ledger.archive.targets.bucket import Bucket
from ledger.archive.targets.objects import (
    ExpectedObject,
    ListedObject,
    ObjectState,
    StoredObject,
    TargetSettings,
    checked_key,
    checked_prefix,
)
from ledger.errors import (
    ArchiveMisconfigured,
    ArchiveMismatch,
    ArchiveObjectMissing,
    ArchiveUnavailable,
)

WAIT_MAX_S = 10.0  # between two attempts
T = TypeVar("T")


class S3Target:
    """Implements `Target` on a bucket; see there.

    A call begins anew when the network or the server fails. It looks first at what is there, so
    an answer that was lost costs a second look. The HTTP client below may send a request twice
    by itself; that can leave a second version of a pointer, with the same bytes and lock.
    """

    def __init__(
        self, url: str, bucket: str, prefix: str, settings: TargetSettings, *, locked: bool
    ) -> None:
        self.url = url
        self.locked = locked
        self._name = bucket
        self._prefix = prefix
        self._settings = settings
        self._open = AsyncExitStack()
        self._connected: Bucket | None = None

    async def __aenter__(self) -> Self:
        opening = Bucket.connected(self._name, self._prefix, self._settings)
        self._connected = await self._open.enter_async_context(opening)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._connected = None
        await self._open.aclose()

    async def check(self) -> None:
        await self._tried(self._bucket.reach)
        faults = await self._tried(self._bucket.lock_faults) if self.locked else []
        if faults:
            raise ArchiveMisconfigured(
                f"bucket {self._name!r} locks nothing: {' and '.join(faults)}. Enable both "
                "(Object Lock is chosen when a bucket is made), or declare the target unlocked "
                "by ?lock=none"
            )

    async def put(
        self,
        key: str,
        data: bytes,
        retain_until: datetime | None = None,
        legal_hold: bool = False,
    ) -> StoredObject:
        wanted = self._wanted(key, data, retain_until, legal_hold)
        return await self._tried(lambda: self._put(wanted))

    async def put_pointer(
        self,
        key: str,
        data: bytes,
        retain_until: datetime | None = None,
        legal_hold: bool = False,
    ) -> StoredObject:
        wanted = self._wanted(key, data, retain_until, legal_hold)
        return await self._tried(lambda: self._put_pointer(wanted))

    async def get(self, key: str, limit: int, version: str | None = None) -> bytes:
        checked_key(key)
        return await self._tried(lambda: self._bucket.read(key, limit, version or ""))

    async def head(self, key: str) -> ObjectState | None:
        checked_key(key)
        try:
            return await self._tried(lambda: self._bucket.head(key))
        except ArchiveObjectMissing:
            return None

    async def extend(
        self, held: ObjectState, retain_until: datetime | None = None, legal_hold: bool = False
    ) -> ObjectState:
        wanted = self._wanted(held.key, b"", retain_until, legal_hold)
        return await self._tried(lambda: self._extended(wanted, held))

    async def versions(self, key: str) -> tuple[str, ...]:
        checked_key(key)
        return await self._tried(lambda: self._bucket.versions(key))

    async def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        checked_prefix(prefix)
        after = ""
        while page := await self._tried(partial(self._bucket.list_after, prefix, after)):
            for listed in page:
                # Keys that only grow make the listing end, whatever the server answers.
                if listed.key <= after or not listed.key.startswith(prefix):
                    raise ArchiveMismatch(
                        f"{self.url} lists {listed.key!r} after {after!r}, out of order"
                    )
                after = listed.key
                yield listed

    async def _put(self, wanted: ExpectedObject) -> StoredObject:
        found = await self._bucket.find(wanted.key)
        if found is not None:
            stored = await self._bucket.digest(wanted.key, found.version)
            wanted.must_be(stored)
            if not found.hidden:
                return await self._locked(wanted, stored)
        # A key that somebody deleted gets a new version, with the bytes it always had.
        return await self._written(wanted, only_new=True)

    async def _put_pointer(self, wanted: ExpectedObject) -> StoredObject:
        found = await self._bucket.find(wanted.key)
        if found is None:
            return await self._written(wanted, only_new=True)
        stored = await self._bucket.digest(wanted.key, found.version)
        wanted = self._no_shorter(wanted, stored)
        if stored.sha256 == wanted.sha256 and not found.hidden:
            return await self._locked(wanted, stored)
        return await self._written(wanted, only_new=False)

    def _no_shorter(self, wanted: ExpectedObject, before: ObjectState) -> ExpectedObject:
        """The same object, retained for as long as the version before it at least."""
        moments = [each for each in (wanted.retain_until, before.retain_until) if each]
        return msgspec.structs.replace(wanted, retain_until=max(moments, default=None))

    async def _written(self, wanted: ExpectedObject, *, only_new: bool) -> StoredObject:
        version = await self._bucket.put(wanted, locked=self.locked, only_new=only_new)
        if self.locked and not version:
            raise ArchiveMismatch(
                f"{wanted.key!r} was stored without a version, so nothing keeps it from being "
                f"overwritten; bucket {self._name!r} must keep versions"
            )
        stored = await self._bucket.digest(wanted.key, version)
        wanted.must_be(stored)
        if stored.version != version:
            raise ArchiveMismatch(
                f"{wanted.key!r} was stored as version {version!r} and read back as "
                f"{stored.version!r}"
            )
        if self.locked:
            wanted.must_be_locked_by(stored)
        return stored

    async def _locked(self, wanted: ExpectedObject, stored: StoredObject) -> StoredObject:
        """The same stored object, its retention and legal hold brought up to what is wanted."""
        held = await self._extended(wanted, stored)
        return msgspec.structs.replace(
            stored, retain_until=held.retain_until, legal_hold=held.legal_hold
        )

    async def _extended(self, wanted: ExpectedObject, held: ObjectState) -> ObjectState:
        """What the server says of a version that is locked at least as is wanted."""
        if not self.locked or wanted.is_locked_by(held):
            return held
        await self._bucket.lock(wanted, held)
        after = await self._bucket.head(wanted.key, held.version)
        wanted.must_be_locked_by(after)
        return after

    def _wanted(
        self, key: str, data: bytes, retain_until: datetime | None, legal_hold: bool
    ) -> ExpectedObject:
        if self.locked and retain_until is None and not legal_hold:
            raise ArchiveMisconfigured(
                f"{key!r} would be stored unlocked in {self.url}; the archive's policy must name "
                "a retention or a legal hold"
            )
        return ExpectedObject.of(key, data, retain_until, legal_hold)

    @property
    def _bucket(self) -> Bucket:
        assert self._connected is not None, "a target is used within `async with`"
        return self._connected

    async def _tried(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call's result, of as many attempts as the settings allow."""
        async for attempt in stamina.retry_context(
            on=ArchiveUnavailable,
            attempts=self._settings.attempts,
            timeout=self._settings.attempts_timeout_s,
            wait_initial=self._settings.attempts_wait_s,
            wait_max=WAIT_MAX_S,
            wait_jitter=self._settings.attempts_wait_s,
        ):
            with attempt:
                return await call()
        raise AssertionError("retry_context ends with a result or an error")
