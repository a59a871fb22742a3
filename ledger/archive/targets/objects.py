"""What every target has in common: its interface, what it says of an object, which keys it takes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Protocol, Self

import msgspec
from msgspec import Meta

from ledger.errors import ArchiveMisconfigured, ArchiveMismatch

OBJECT_BYTES_MAX = 256 << 20  # of one object; each is written by one request and held in memory
KEY_CHARS_MAX = 700  # S3 takes 1,024 bytes, of which a target's prefix needs some
# A key is a path: no segment begins with a dot, so none is `..` or one of a target's own.
_KEY = re.compile(
    r"[A-Za-z0-9_+=@:-][A-Za-z0-9_.+=@:-]{0,199}(/[A-Za-z0-9_+=@:-][A-Za-z0-9_.+=@:-]{0,199})*"
)


class TargetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach object storage; credentials and region come from the AWS_* environment."""

    s3_endpoint: str | None = None  # http(s)://…; None: AWS_ENDPOINT_URL_S3, or Amazon's own
    connect_timeout_s: Annotated[float, Meta(gt=0)] = 5.0
    read_timeout_s: Annotated[float, Meta(gt=0)] = 30.0
    attempts: Annotated[int, Meta(ge=1, le=100)] = 6  # of one call, the first included
    attempts_timeout_s: Annotated[float, Meta(gt=0)] = 60.0  # no attempt begins after these
    attempts_wait_s: Annotated[float, Meta(ge=0)] = 0.2  # before the second; then doubled


class ObjectState(msgspec.Struct, frozen=True, kw_only=True):
    """What the target says of a stored object, without having read it."""

    key: str
    version: str  # empty where the target keeps no versions
    size: int
    retain_until: datetime | None  # aware; None: no COMPLIANCE retention
    legal_hold: bool


class StoredObject(ObjectState, frozen=True, kw_only=True):
    """An object that was read back after it was written."""

    sha256: bytes


class ListedObject(msgspec.Struct, frozen=True):
    """One object of a listing: its key, and its size in bytes."""

    key: str
    size: int


class ExpectedObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object as it shall be stored; what is read back is measured against it."""

    key: str
    data: bytes
    sha256: bytes
    retain_until: datetime | None
    legal_hold: bool

    @classmethod
    def of(cls, key: str, data: bytes, retain_until: datetime | None, legal_hold: bool) -> Self:
        """Raises ArchiveMisconfigured for a key, size or time that no target takes."""
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
        """Raises ArchiveMismatch, with both digests, when other bytes are stored under the key."""
        if stored.sha256 != self.sha256:
            raise ArchiveMismatch(
                f"{self.key!r} holds {stored.size} bytes with SHA-256 {stored.sha256.hex()}"
                f"{_version(stored)}, but {len(self.data)} bytes with SHA-256 "
                f"{self.sha256.hex()} are to be archived there. Nothing was overwritten; "
                "find out which is right before archiving on"
            )

    def is_locked_by(self, held: ObjectState) -> bool:
        """Whether retention and legal hold are at least what is wanted."""
        return held.legal_hold >= self.legal_hold and (
            self.retain_until is None
            or (held.retain_until is not None and held.retain_until >= self.retain_until)
        )

    def must_be_locked_by(self, held: ObjectState) -> None:
        """Raises ArchiveMismatch when retention or legal hold are less than what is wanted."""
        if not self.is_locked_by(held):
            raise ArchiveMismatch(
                f"{self.key!r}{_version(held)} is to be retained until {_told(self.retain_until)} "
                f"with legal hold {_on(self.legal_hold)}, but the server tells retention until "
                f"{_told(held.retain_until)} and legal hold {_on(held.legal_hold)}. Check that "
                "the credentials may set and read both, and that the server enforces Object Lock"
            )


class Readable(Protocol):
    """What reading an archive takes of a target; see there."""

    async def get(self, key: str, limit: int, version: str | None = None) -> bytes: ...

    def list(self, prefix: str = "") -> AsyncIterator[ListedObject]: ...


class Target(Protocol):
    """Keeps the objects of archives; every method may raise any ArchiveError.

    Used as an async context manager. Any number of calls may be under way at once.
    """

    @property
    def url(self) -> str:
        """What it was opened by."""

    @property
    def locked(self) -> bool:
        """Whether what is stored can't be deleted or overwritten before its retention ends."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def check(self) -> None:
        """Raises unless the target can be reached and keeps objects as its URL promises."""

    async def put(
        self,
        key: str,
        data: bytes,
        retain_until: datetime | None = None,
        legal_hold: bool = False,
    ) -> StoredObject:
        """Store an object for good; returns once it was read back as it should be.

        The same bytes under the same key count as already stored, their retention is extended
        where it is short. Other bytes raise ArchiveMismatch and overwrite nothing. A locked
        target demands a retention or a legal hold. An unlocked one keeps neither; `StoredObject`
        tells what holds.
        """

    async def put_pointer(
        self,
        key: str,
        data: bytes,
        retain_until: datetime | None = None,
        legal_hold: bool = False,
    ) -> StoredObject:
        """Store the new state of the one mutable object of a static log, its `checkpoint`.

        Older versions remain. The new one is never locked for less long than the one before.
        """

    async def get(self, key: str, limit: int, version: str | None = None) -> bytes:
        """The newest, or the given, version of an object of at most `limit` bytes.

        Raises ArchiveObjectMissing, and ArchiveMismatch for one that is longer.
        """

    async def head(self, key: str) -> ObjectState | None:
        """What the target says of the newest version; None when nothing is stored there."""

    async def extend(
        self, held: ObjectState, retain_until: datetime | None = None, legal_hold: bool = False
    ) -> ObjectState:
        """Lock that version of an object for longer; never for less long. What then holds.

        Returns once the target says so. An unlocked one locks nothing.
        """

    async def versions(self, key: str) -> tuple[str, ...]:
        """Versions of a key, newest first, also of one that was hidden by a deletion."""

    def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        """All objects whose keys begin with `prefix`, in the order of their keys, as a stream."""


def checked_key(key: str) -> str:
    """The key itself. Raises ArchiveMisconfigured for one that is no plain relative path."""
    if len(key) > KEY_CHARS_MAX or not _KEY.fullmatch(key):
        raise ArchiveMisconfigured(
            f"{key[:80]!r} is no key of an archive object: segments of letters, digits and "
            "_ . + = @ : - joined by single slashes, none beginning with a dot"
        )
    return key


def checked_prefix(prefix: str) -> str:
    """The prefix itself. Raises ArchiveMisconfigured for one with which no key can begin."""
    if prefix:
        checked_key(prefix.removesuffix("/"))
    return prefix


def too_long(key: str, limit: int) -> ArchiveMismatch:
    """The error for an object that is longer than who asked can take."""
    return ArchiveMismatch(f"{key!r} is longer than the {limit} bytes that it may have")


def _whole_seconds(moment: datetime | None) -> datetime | None:
    """The moment, or the next whole second after it: servers keep no less than seconds."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ArchiveMisconfigured("a retention must say its time zone")
    rounded = moment.astimezone(UTC).replace(microsecond=0)
    return rounded if rounded == moment else rounded + timedelta(seconds=1)


def _version(held: ObjectState) -> str:
    return f" in version {held.version}" if held.version else ""


def _told(moment: datetime | None) -> str:
    return "nothing" if moment is None else moment.isoformat()


def _on(hold: bool) -> str:
    return "on" if hold else "off"
