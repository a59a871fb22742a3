"""A folder as the target of archives, without locks: for trials and for copies.

Every object is a read-only file at its key. The versions of a pointer are files in
`.versions/<key>/`, numbered from 0000000001; the pointer is a hard link to the newest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Self

from ledger.archive.targets.files import FolderFiles, ParallelFileReader
from ledger.archive.targets.objects import (
    OBJECT_BYTES_MAX,
    ExpectedObject,
    ListedObject,
    ObjectState,
    StoredObject,
    checked_key,
    checked_prefix,
    too_long,
)
from ledger.errors import (
    ArchiveDenied,
    ArchiveMisconfigured,
    ArchiveMismatch,
    ArchiveObjectMissing,
    ArchiveUnavailable,
)

LISTED_AT_ONCE = 1_000
RACES_MAX = 100  # tries of a writer, each of which another writer may win
_VERSION = re.compile(r"[0-9]{10}")


class FolderTarget:
    """Implements `Target` on a folder; `Target` documents the methods."""

    locked = False

    def __init__(self, url: str, root: Path) -> None:
        self.url = url
        self._root = root
        self._files = FolderFiles(root)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return

    async def check(self) -> None:
        await asyncio.to_thread(self._check)

    async def put(
        self,
        key: str,
        data: bytes,
        retain_until: datetime | None = None,
        legal_hold: bool = False,
    ) -> StoredObject:
        expected = ExpectedObject.of(key, data, retain_until, legal_hold)
        return await asyncio.to_thread(self._put, expected)

    async def put_pointer(
        self,
        key: str,
        data: bytes,
        retain_until: datetime | None = None,
        legal_hold: bool = False,
    ) -> StoredObject:
        expected = ExpectedObject.of(key, data, retain_until, legal_hold)
        return await asyncio.to_thread(self._put_pointer, expected)

    async def get(self, key: str, limit: int, version: str | None = None) -> bytes:
        file = _version_key(key, version) if version else checked_key(key)
        data = await asyncio.to_thread(self._read, file, min(limit, OBJECT_BYTES_MAX))
        if data is None:
            raise too_long(key, limit)
        return data

    async def head(self, key: str) -> ObjectState | None:
        return await asyncio.to_thread(self._head, checked_key(key))

    async def extend(
        self, state: ObjectState, retain_until: datetime | None = None, legal_hold: bool = False
    ) -> ObjectState:
        del retain_until, legal_hold  # a folder has no locks
        return state

    async def versions(self, key: str) -> tuple[str, ...]:
        state = await self.head(key)
        with self.explained(key):
            return self._versions(key) or (("",) if state else ())

    async def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        found = self._files.walk(checked_prefix(prefix))
        while batch := await asyncio.to_thread(self._next, found):
            for listed in batch:
                yield listed

    def reading(self) -> ReadingFolder:
        """Return a reader of many objects, for a thread that may block."""
        return ReadingFolder(self, ParallelFileReader(self._root))

    def names(self, prefix: str, limit: int) -> Sequence[str]:
        """Return the first `limit` keys of `list`; for a process that may block."""
        with self.explained(prefix):
            return [each.key for each in islice(self._files.walk(checked_prefix(prefix)), limit)]

    def _check(self) -> None:
        with self.explained("the folder"):
            self._files.check()

    def _put(self, expected: ExpectedObject) -> StoredObject:
        with self.explained(expected.key):
            # An existing file is compared with the expected bytes, as a new one is.
            with contextlib.suppress(FileExistsError):
                self._files.create(expected.key, expected.data)
            stored = self._settled(expected.key, expected.key)
        expected.must_be(stored)
        return stored

    def _put_pointer(self, expected: ExpectedObject) -> StoredObject:
        with self.explained(expected.key):
            stored = self._newest_version(expected)
            # A crash here leaves a new version that the pointer does not name: the next
            # `put_pointer` finds it and links the pointer to the newest version.
            self._link_newest(expected.key)
        return stored

    def _link_newest(self, key: str) -> None:
        """Link the pointer to its newest version, which may be another writer's by now.

        A slow writer that linked an older version sees the newer one here and links that.
        """
        for _ in range(RACES_MAX):
            newest = self._versions(key)[0]
            version = _version_key(key, newest)
            if self._digest(key) == self._digest(version) and self._versions(key)[0] == newest:
                return
            self._files.point(key, version)
        raise ArchiveUnavailable(f"too many writers store {key!r} at once; try again")

    def _digest(self, file: str) -> bytes | None:
        try:
            return self._settled(file, file).sha256
        except FileNotFoundError:
            return None

    def _newest_version(self, expected: ExpectedObject) -> StoredObject:
        """Return a pointer's newest version, made anew unless it has the expected bytes."""
        for _ in range(RACES_MAX):
            newest = next(iter(self._versions(expected.key)), None)
            if newest is not None:
                stored = self._settled(expected.key, _version_key(expected.key, newest), newest)
                if stored.sha256 == expected.sha256:
                    return stored
            number = f"{int(newest or 0) + 1:010}"
            try:
                self._files.create(_version_key(expected.key, number), expected.data)
            except FileExistsError:
                continue
            # Not read as the newest: another writer's may be newer by now, and this one is kept.
            return self._settled(expected.key, _version_key(expected.key, number), number)
        raise ArchiveUnavailable(f"too many writers store {expected.key!r} at once; try again")

    def _settled(self, key: str, file: str, version: str = "") -> StoredObject:
        size, digest = self._files.settle(file)
        return StoredObject(
            key=key, version=version, size=size, retain_until=None, legal_hold=False, sha256=digest
        )

    def _read(self, file: str, limit: int) -> bytes | None:
        with self.explained(file):
            return self._files.read(file, limit)

    def _head(self, key: str) -> ObjectState | None:
        try:
            with self.explained(key):
                size = self._files.size(key)
                newest = next(iter(self._versions(key)), "")
        except ArchiveObjectMissing:
            return None
        return ObjectState(key=key, version=newest, size=size, retain_until=None, legal_hold=False)

    def _versions(self, key: str) -> tuple[str, ...]:
        names = self._files.names(f".versions/{key}")
        return tuple(sorted(filter(_VERSION.fullmatch, names), reverse=True))

    def _next(self, found: Iterator[ListedObject]) -> tuple[ListedObject, ...]:
        with self.explained("the folder"):
            return tuple(islice(found, LISTED_AT_ONCE))

    @contextmanager
    def explained(self, what: str) -> Iterator[None]:
        """Turn OSErrors of the block into ArchiveErrors; `what` is the key or thing at fault."""
        try:
            yield
        except FileNotFoundError as error:
            if not self._root.is_dir():
                message = f"the archive's folder {self._root} is missing; is it mounted?"
                raise ArchiveUnavailable(message) from error
            raise ArchiveObjectMissing(f"nothing is stored under {what!r}") from error
        except PermissionError as error:
            message = (
                f"{self._root} can't be read or written: {error}. Make this process's user the "
                "owner of the folder"
            )
            raise ArchiveDenied(message) from error
        except OSError as error:
            raise _explanation(self._root, what, error) from error


class ReadingFolder:
    """Reads objects one after another; made by `FolderTarget.reading`."""

    def __init__(self, target: FolderTarget, files: ParallelFileReader) -> None:
        self._target = target
        self._files = files

    def read(self, key: str, limit: int) -> bytes | None:
        """Read an object as `FolderTarget.get` does; None where it is missing."""
        try:
            data = self._files.read(checked_key(key), min(limit, OBJECT_BYTES_MAX))
        except FileNotFoundError:
            return None
        except OSError:
            with self._target.explained(key):
                raise
        if data is None:
            raise too_long(key, limit)
        return data

    def names(self, prefix: str, limit: int) -> Sequence[str]:
        """Return the first `limit` keys of `FolderTarget.list`."""
        return self._target.names(prefix, limit)

    def close(self) -> None:
        """Close the open folders."""
        self._files.close()


def _version_key(key: str, version: str) -> str:
    if not _VERSION.fullmatch(version):
        raise ArchiveObjectMissing(f"{key!r} has no version {version[:40]!r}")
    return f".versions/{checked_key(key)}/{version}"


def _explanation(root: Path, what: str, error: OSError) -> Exception:
    match error.errno:
        case errno.ENOTDIR | errno.EISDIR | errno.ELOOP | errno.EEXIST:
            return ArchiveMismatch(
                f"in {root}, a file, folder or link that is not part of the archive is in the "
                f"place of {what!r}: {error}"
            )
        case errno.EROFS | errno.ENOTSUP | errno.ENAMETOOLONG:
            return ArchiveMisconfigured(f"{root} can't hold an archive: {error}")
        case _:
            return ArchiveUnavailable(f"{root} could not be read or written: {error}")
