"""A bucket as the target of archives: an object counts once it was locked and read back."""

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
    """Implements `Target` on a bucket; `Target` documents the methods.

    A call is retried when the network or the server fails. It first reads what is stored, so
    that a lost answer costs one more read and no second version. The HTTP client may send a
    request twice by itself; that can leave a second version of a pointer, with the same bytes
    and lock.
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
        await self._retried(self._bucket.reach)
        faults = await self._retried(self._bucket.lock_faults) if self.locked else []
        if faults:
            raise ArchiveMisconfigured(
                f"bucket {self._name!r} does not lock objects: {' and '.join(faults)}. Enable both "
                "(Object Lock is chosen when a bucket is made), or declare the target unlocked "
                "with ?lock=none"
            )

    async def put(
        self,
        key: str,
        data: bytes,
        retain_until: datetime | None = None,
        legal_hold: bool = False,
    ) -> StoredObject:
        expected = self._expected(key, data, retain_until, legal_hold)
        return await self._retried(lambda: self._put(expected))

    async def put_pointer(
        self,
        key: str,
        data: bytes,
        retain_until: datetime | None = None,
        legal_hold: bool = False,
    ) -> StoredObject:
        expected = self._expected(key, data, retain_until, legal_hold)
        return await self._retried(lambda: self._put_pointer(expected))

    async def get(self, key: str, limit: int, version: str | None = None) -> bytes:
        checked_key(key)
        return await self._retried(lambda: self._bucket.read(key, limit, version or ""))

    async def head(self, key: str) -> ObjectState | None:
        checked_key(key)
        try:
            return await self._retried(lambda: self._bucket.head(key))
        except ArchiveObjectMissing:
            return None

    async def extend(
        self, state: ObjectState, retain_until: datetime | None = None, legal_hold: bool = False
    ) -> ObjectState:
        expected = self._expected(state.key, b"", retain_until, legal_hold)
        return await self._retried(lambda: self._extended(expected, state))

    async def versions(self, key: str) -> tuple[str, ...]:
        checked_key(key)
        return await self._retried(lambda: self._bucket.versions(key))

    async def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        checked_prefix(prefix)
        after = ""
        while page := await self._retried(partial(self._bucket.list_after, prefix, after)):
            for listed in page:
                # Strictly ascending keys make the listing end, whatever the server answers.
                if listed.key <= after or not listed.key.startswith(prefix):
                    raise ArchiveMismatch(
                        f"{self.url} lists {listed.key!r} after {after!r}, which is out of order. "
                        "Check that the server lists keys in the order of their bytes"
                    )
                after = listed.key
                yield listed

    async def _put(self, expected: ExpectedObject) -> StoredObject:
        found = await self._bucket.find(expected.key)
        if found is not None:
            stored = await self._bucket.digest(expected.key, found.version)
            expected.must_be(stored)
            if not found.hidden:
                return await self._locked(expected, stored)
        # A deleted key gets a new version, with the bytes that it always had.
        return await self._written(expected, only_new=True)

    async def _put_pointer(self, expected: ExpectedObject) -> StoredObject:
        found = await self._bucket.find(expected.key)
        if found is None:
            return await self._written(expected, only_new=True)
        stored = await self._bucket.digest(expected.key, found.version)
        expected = self._no_shorter(expected, stored)
        if stored.sha256 == expected.sha256 and not found.hidden:
            return await self._locked(expected, stored)
        return await self._written(expected, only_new=False)

    def _no_shorter(self, expected: ExpectedObject, before: ObjectState) -> ExpectedObject:
        """Return the object with a retention at least as long as that of the version before."""
        moments = [each for each in (expected.retain_until, before.retain_until) if each]
        return msgspec.structs.replace(expected, retain_until=max(moments, default=None))

    async def _written(self, expected: ExpectedObject, *, only_new: bool) -> StoredObject:
        version = await self._bucket.put(expected, locked=self.locked, only_new=only_new)
        # A crash here leaves a version that was not read back. The next call finds it and
        # reads it back instead of writing it.
        if self.locked and not version:
            raise ArchiveMismatch(
                f"{expected.key!r} was stored without a version, so that it can be overwritten. "
                f"Enable versioning for bucket {self._name!r}"
            )
        stored = await self._bucket.digest(expected.key, version)
        expected.must_be(stored)
        if stored.version != version:
            raise ArchiveMismatch(
                f"{expected.key!r} was stored as version {version!r} and read back as "
                f"{stored.version!r}"
            )
        if self.locked:
            expected.must_be_locked_by(stored)
        return stored

    async def _locked(self, expected: ExpectedObject, stored: StoredObject) -> StoredObject:
        """Extend a stored object's retention and legal hold to those expected; return it."""
        state = await self._extended(expected, stored)
        return msgspec.structs.replace(
            stored, retain_until=state.retain_until, legal_hold=state.legal_hold
        )

    async def _extended(self, expected: ExpectedObject, state: ObjectState) -> ObjectState:
        """Extend a version's lock where it is short; return the state that the server reports."""
        if not self.locked or expected.is_locked_by(state):
            return state
        await self._bucket.lock(expected, state)
        after = await self._bucket.head(expected.key, state.version)
        expected.must_be_locked_by(after)
        return after

    def _expected(
        self, key: str, data: bytes, retain_until: datetime | None, legal_hold: bool
    ) -> ExpectedObject:
        if self.locked and retain_until is None and not legal_hold:
            raise ArchiveMisconfigured(
                f"{key!r} would be stored unlocked in {self.url}: set QUIRE_ARCHIVE_RETAIN_DAYS or "
                "QUIRE_ARCHIVE_LEGAL_HOLD"
            )
        return ExpectedObject.of(key, data, retain_until, legal_hold)

    @property
    def _bucket(self) -> Bucket:
        assert self._connected is not None, "use the target within `async with`"
        return self._connected

    async def _retried(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the call's result; retry it as often as the settings allow."""
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
