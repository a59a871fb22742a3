"""The common parts of all targets: the interface, the states of objects, the valid keys."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Protocol, Self

import msgspec
from msgspec import Meta

from ledger.errors import ArchiveMisconfigured, ArchiveMismatch

OBJECT_BYTES_MAX = 256 << 20  # of one object; each is written by one request and kept in memory
KEY_CHARS_MAX = 700  # S3 takes 1,024 bytes, of which a target's prefix needs some
# A key is a path: no segment begins with a dot, so that none is `..` or a target's own folder.
_KEY = re.compile(
    r"[A-Za-z0-9_+=@:-][A-Za-z0-9_.+=@:-]{0,199}(/[A-Za-z0-9_+=@:-][A-Za-z0-9_.+=@:-]{0,199})*"
)


class TargetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of object storage; credentials and region come from the AWS_* environment."""

    s3_endpoint: str | None = None  # http(s)://…; None: AWS_ENDPOINT_URL_S3, or Amazon's own
    connect_timeout_s: Annotated[float, Meta(gt=0)] = 5.0
    read_timeout_s: Annotated[float, Meta(gt=0)] = 30.0
    attempts: Annotated[int, Meta(ge=1, le=100)] = 6  # of one call, the first included
    attempts_timeout_s: Annotated[float, Meta(gt=0)] = 60.0  # no attempt begins after these
    attempts_wait_s: Annotated[float, Meta(ge=0)] = 0.2  # before the second; then doubled


class ObjectState(msgspec.Struct, frozen=True, kw_only=True):
    """The target's statement about a stored object, without reading it."""

    key: str
    version: str  # empty where the target keeps no versions
    size: int
    retain_until: datetime | None  # aware; None: no COMPLIANCE retention
    legal_hold: bool


class StoredObject(ObjectState, frozen=True, kw_only=True):
    """An object that was read back after it was written."""

    sha256: bytes


class ListedObject(msgspec.Struct, frozen=True):
    """An object of a listing: its key, and its size in bytes."""

    key: str
    size: int


class ExpectedObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object as it is to be stored; the object read back is compared with it."""

    key: str
    data: bytes
    sha256: bytes
    retain_until: datetime | None
    legal_hold: bool

    @classmethod
    def of(cls, key: str, data: bytes, retain_until: datetime | None, legal_hold: bool) -> Self:
        """Make one. Raises ArchiveMisconfigured for a key, size or time that no target takes."""
        if len(data) > OBJECT_BYTES_MAX:
            raise ArchiveMisconfigured(
                f"{key!r} has {len(data)} bytes; an archive object has {OBJECT_BYTES_MAX} at most"
            )
        return cls(
            key=checked_key(key),
            data=data,
            sha256=sha256(data).digest(),
            retain_until=_whole_seconds(retain_until),
            legal_hold=legal_hold,
        )

    def must_be(self, stored: StoredObject) -> None:
        """Raise ArchiveMismatch, with both digests, when other bytes are stored under the key."""
        if stored.sha256 != self.sha256:
            raise ArchiveMismatch(
                f"{self.key!r} holds {stored.size} bytes with SHA-256 {stored.sha256.hex()}"
                f"{_version(stored)}, but {len(self.data)} bytes with SHA-256 "
                f"{self.sha256.hex()} are to be archived there. Nothing was overwritten; "
                "find out which is right before archiving on"
            )

    def is_locked_by(self, state: ObjectState) -> bool:
        """Return whether retention and legal hold are at least those expected."""
        return state.legal_hold >= self.legal_hold and (
            self.retain_until is None
            or (state.retain_until is not None and state.retain_until >= self.retain_until)
        )

    def must_be_locked_by(self, state: ObjectState) -> None:
        """Raise ArchiveMismatch when retention or legal hold are less than those expected."""
        if not self.is_locked_by(state):
            raise ArchiveMismatch(
                f"{self.key!r}{_version(state)} is to be locked with {_lock(self)}, but the server "
                f"reports {_lock(state)}. Check that the credentials may set and read both, and "
                "that the server enforces Object Lock"
            )


class Readable(Protocol):
    """The methods of `Target` that reading an archive needs."""

    async def get(self, key: str, limit: int, version: str | None = None) -> bytes: ...

    def list(self, prefix: str = "") -> AsyncIterator[ListedObject]: ...


class Target(Protocol):
    """Stores the objects of archives; every method may raise any ArchiveError.

    Used as an async context manager. Any number of calls may run at once.
    """

    @property
    def url(self) -> str:
        """The URL by which it was opened."""

    @property
    def locked(self) -> bool:
        """Whether objects can't be deleted or overwritten before their retention ends."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def check(self) -> None:
        """Raise an ArchiveError unless the target is reachable and locks as its URL says."""

    async def put(
        self,
        key: str,
        data: bytes,
        retain_until: datetime | None = None,
        legal_hold: bool = False,
    ) -> StoredObject:
        """Store an object permanently; return once it was read back and found right.

        The same bytes under the same key count as already stored; their retention is extended
        where it is short. Other bytes raise ArchiveMismatch and overwrite nothing. A locked
        target demands a retention or a legal hold. An unlocked target keeps neither. The
        returned `StoredObject` has the lock that is in force.
        """

    async def put_pointer(
        self,
        key: str,
        data: bytes,
        retain_until: datetime | None = None,
        legal_hold: bool = False,
    ) -> StoredObject:
        """Store the new state of a pointer, an object that changes, like `checkpoint`.

        Older versions remain. The new version's retention never ends before the last one's.
        """

    async def get(self, key: str, limit: int, version: str | None = None) -> bytes:
        """Read the newest, or the given, version of an object of at most `limit` bytes.

        Raises ArchiveObjectMissing, and ArchiveMismatch for a longer object.
        """

    async def head(self, key: str) -> ObjectState | None:
        """Return the state of the newest version; None when nothing is stored under the key."""

    async def extend(
        self, state: ObjectState, retain_until: datetime | None = None, legal_hold: bool = False
    ) -> ObjectState:
        """Extend the lock of a version, never shorten it; return the state then in force.

        Returns once the target reports the lock. An unlocked target does nothing.
        """

    async def versions(self, key: str) -> tuple[str, ...]:
        """Return the versions of a key, newest first, also of a deleted one."""

    def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        """Stream all objects whose keys begin with `prefix`, in the order of their keys."""


def checked_key(key: str) -> str:
    """Return the key. Raises ArchiveMisconfigured unless it is a plain relative path."""
    if len(key) > KEY_CHARS_MAX or not _KEY.fullmatch(key):
        raise ArchiveMisconfigured(
            f"{key[:80]!r} is not a valid key of an archive object. A key has segments of letters, "
            "digits and _ . + = @ : - joined by single slashes, none beginning with a dot"
        )
    return key


def checked_prefix(prefix: str) -> str:
    """Return the prefix. Raises ArchiveMisconfigured unless a key can begin with it."""
    if prefix:
        checked_key(prefix.removesuffix("/"))
    return prefix


def too_long(key: str, limit: int) -> ArchiveMismatch:
    """Return the error for an object that is longer than the reader's limit."""
    return ArchiveMismatch(f"{key!r} is longer than the {limit} bytes that it may have")


def _whole_seconds(moment: datetime | None) -> datetime | None:
    """Round a moment up to whole seconds, the resolution that servers keep."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ArchiveMisconfigured("the end of a retention needs a time zone")
    rounded = moment.astimezone(UTC).replace(microsecond=0)
    return rounded if rounded == moment else rounded + timedelta(seconds=1)


def _version(state: ObjectState) -> str:
    return f" in version {state.version}" if state.version else ""


def _lock(lock: ExpectedObject | ObjectState) -> str:
    until = lock.retain_until
    retention = "no retention" if until is None else f"retention until {until.isoformat()}"
    return f"{retention} and {'a' if lock.legal_hold else 'no'} legal hold"
