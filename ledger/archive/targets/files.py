"""Files below one folder that are written whole or not at all, and never overwritten.

A file is written under a random name in `.incoming`, synced, and only then linked to its place;
the link fails where a file exists. A crash leaves the whole file, or a file in `.incoming`.
Folders are opened one segment at a time from the top without following links, so that no path
leads outside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Final

from ledger.archive.targets.objects import ListedObject

CHUNK_BYTES = 1 << 20
DEPTH_MAX = 64  # nested folders that a listing enters
SYNCED_MAX = 100_000  # folders remembered as durable
ABANDONED_S = 86_400  # a file in `.incoming` older than this has no writer any more
INCOMING = ".incoming"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


FOLDERS_OPEN: Final = 16  # folders that a reader of many files keeps open


class ParallelFileReader:
    """Reads many files below one folder, most of them in few folders; for one thread.

    Reads as :meth:`FolderFiles.read` does, but keeps the last used folders open.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[tuple[str, ...], int] = {}

    def read(self, key: str, limit: int) -> bytes | None:
        """Read a file; None when it has more than `limit` bytes. Raises OSError."""
        *parents, name = key.split("/")
        file = os.open(name, _READ, dir_fd=self._folder(tuple(parents)))
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, "not a regular file", key)
            if status.st_size > limit:
                return None
            return _whole(file, status.st_size)
        finally:
            os.close(file)

    def close(self) -> None:
        """Close the folders."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _folder(self, path: tuple[str, ...]) -> int:
        found = self._open.pop(path, None)
        if found is None:
            if path:
                found = os.open(path[-1], _FOLDER, dir_fd=self._folder(path[:-1]))
            else:
                found = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open[path] = found  # the newest last
        if len(self._open) > FOLDERS_OPEN:
            os.close(self._open.pop(next(iter(self._open))))
        return found


def _whole(file: int, size: int) -> bytes:
    """Read a file of this size; return less where it was shortened meanwhile."""
    data = os.read(file, size)
    while len(data) < size and (more := os.read(file, size - len(data))):
        data += more
    return data


class FolderFiles:
    """The files of one folder, by keys with slashes; every method may raise OSError."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._synced: set[tuple[str, ...]] = set()

    def check(self) -> None:
        """Make the folder if it is missing, remove abandoned files, and try a write."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._folder((INCOMING,), create=True) as incoming:
            for name in os.listdir(incoming):  # noqa: PTH208 - a descriptor, no path
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - os.stat(name, dir_fd=incoming).st_mtime > ABANDONED_S:
                        os.unlink(name, dir_fd=incoming)
            with self._written(incoming, b"") as written, self._linked(incoming, written):
                pass

    def create(self, key: str, data: bytes) -> None:
        """Write a new file durably. Raises FileExistsError where a file exists."""
        *parents, name = key.split("/")
        with (
            self._folder((INCOMING,), create=True) as incoming,
            self._folder(parents, create=True) as folder,
            self._written(incoming, data) as written,
        ):
            # A crash here leaves a file in `.incoming`, which `check` removes after a day.
            os.link(written, name, src_dir_fd=incoming, dst_dir_fd=folder, follow_symlinks=False)
            # A crash here leaves the whole file, whose name may not be durable: the next writer
            # of the key finds it and syncs the folder, or writes it again.
            os.fsync(folder)

    def point(self, key: str, version: str) -> None:
        """Make `key` another name of the file `version`, in place of what it named before."""
        *parents, name = key.split("/")
        *version_parents, version_name = version.split("/")
        with (
            self._folder((INCOMING,), create=True) as incoming,
            self._folder(version_parents) as versions,
            self._folder(parents, create=True) as folder,
            self._linked(versions, version_name, incoming) as linked,
        ):
            # A crash here leaves the pointer as it was, and a name in `.incoming`.
            os.replace(linked, name, src_dir_fd=incoming, dst_dir_fd=folder)
            # A crash here leaves the pointer at the old or the new version.
            os.fsync(folder)

    def read(self, key: str, limit: int) -> bytes | None:
        """Read a file; None when it has more than `limit` bytes."""
        with (
            self._opened(key) as (file, status),
            os.fdopen(file, "rb", closefd=False) as stream,
        ):
            # At most the file's size: a buffer of the limit's size costs more than a small file.
            data = stream.read(min(limit, status.st_size) + 1)
        return data if len(data) <= limit else None

    def size(self, key: str) -> int:
        """Return the size of a file in bytes."""
        with self._opened(key) as (_, status):
            return status.st_size

    def settle(self, key: str) -> tuple[int, bytes]:
        """Make a file durable and read-only, read it, and return its size and SHA-256.

        Its writer may have failed between linking the file and syncing the folder.
        """
        *parents, _ = key.split("/")
        digest = sha256()
        size = 0
        with self._opened(key) as (file, status):
            if stat.S_IMODE(status.st_mode) != 0o444:
                os.fchmod(file, 0o444)
            os.fsync(file)
            while chunk := os.read(file, CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        with self._folder(parents, create=True) as folder:
            os.fsync(folder)
        return size, digest.digest()

    def names(self, key: str) -> list[str]:
        """Return the names in a folder; empty when there is no such folder."""
        try:
            with self._folder(key.split("/")) as folder:
                return os.listdir(folder)  # noqa: PTH208 - a descriptor, no path
        except FileNotFoundError:
            return []

    def walk(self, prefix: str) -> Iterator[ListedObject]:
        """Yield all files whose keys begin with `prefix`, in the order of their keys."""
        yield from self._walk((), prefix)

    def _walk(self, parents: tuple[str, ...], prefix: str) -> Iterator[ListedObject]:
        above = "".join(f"{name}/" for name in parents)
        with self._folder(parents) as folder, os.scandir(folder) as entries:
            found = [
                (f"{above}{entry.name}{'/' * entry.is_dir(follow_symlinks=False)}", entry)
                for entry in entries
                if not entry.name.startswith(".")
            ]
            sizes = {
                key: entry.stat(follow_symlinks=False).st_size
                for key, entry in found
                if entry.is_file(follow_symlinks=False) and key.startswith(prefix)
            }
        # A folder is sorted with its slash: `a.b` comes before the files in `a`, as in object
        # storage.
        for key, entry in sorted(found, key=lambda each: each[0]):
            if key in sizes:
                yield ListedObject(key, sizes[key])
            elif key.endswith("/") and (key.startswith(prefix) or prefix.startswith(key)):
                if len(parents) >= DEPTH_MAX:
                    raise OSError(errno.ENAMETOOLONG, f"over {DEPTH_MAX} folders deep", key)
                yield from self._walk((*parents, entry.name), prefix)

    @contextmanager
    def _folder(self, segments: Sequence[str], create: bool = False) -> Iterator[int]:
        """Open a folder below the root; yield its descriptor."""
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for depth, segment in enumerate(segments, 1):
                if create:
                    self._make(folder, tuple(segments[:depth]))
                deeper = os.open(segment, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = deeper
            yield folder
        finally:
            os.close(folder)

    def _make(self, parent: int, path: tuple[str, ...]) -> None:
        """Make a folder durably; an existing one is synced too, as its maker may not have done it."""
        if path in self._synced:
            return
        with contextlib.suppress(FileExistsError):
            os.mkdir(path[-1], 0o755, dir_fd=parent)
        os.fsync(parent)
        if len(self._synced) >= SYNCED_MAX:
            self._synced.clear()
        self._synced.add(path)

    @contextmanager
    def _opened(self, key: str) -> Iterator[tuple[int, os.stat_result]]:
        """Open a regular file for reading; yield its descriptor and status."""
        *parents, name = key.split("/")
        with self._folder(parents) as folder:
            file = os.open(name, _READ, dir_fd=folder)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, "not a regular file", key)
            yield file, status
        finally:
            os.close(file)

    @contextmanager
    def _written(self, incoming: int, data: bytes) -> Iterator[str]:
        """Write a file in `.incoming`, read-only and synced; yield its name; unlink it at the end."""
        name = token_hex(16)
        file = os.open(name, _CREATE, 0o600, dir_fd=incoming)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fchmod(file, 0o444)
                os.fsync(file)
            yield name
        finally:
            os.unlink(name, dir_fd=incoming)

    @contextmanager
    def _linked(self, folder: int, name: str, incoming: int | None = None) -> Iterator[str]:
        """Link a file to a new name in `.incoming`; yield the name; unlink it unless it was moved."""
        incoming = folder if incoming is None else incoming
        linked = token_hex(16)
        os.link(name, linked, src_dir_fd=folder, dst_dir_fd=incoming, follow_symlinks=False)
        try:
            yield linked
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(linked, dir_fd=incoming)
