"""The data directory: its creation, and the lock that gives it one serving process."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from server.refusal import StartupRefused

LOCK_NAME = "serve.lock"
_PID_DIGITS_MAX = 32


class DataDirBusy(StartupRefused):
    """Another process serves this data directory."""


def make_data_dir(path: Path) -> Path:
    """Create the data directory if it is missing and return its absolute path.

    It is for its owner only (0700). As root it gets the search bit for others (0711), because the
    embedded PostgreSQL runs as another user and has its cluster inside; names can still not be
    listed, and every key file is 0600. A directory that exists is never given other permissions.
    """
    try:
        path = path.expanduser().resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        _make(path)
    except OSError as error:
        raise StartupRefused(
            f"The data directory {path} cannot be created: {error.strerror}. "
            "Name another one with QUIRE_DATA_DIR or --data-dir."
        ) from error
    return path


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        if os.geteuid() == 0:
            path.chmod(0o711)


def sync_directory(path: Path) -> None:
    """Make what was created or renamed in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DataDirLock:
    """Context manager: this process alone serves the data directory.

    The kernel holds the lock (flock) for as long as the process lives, so a crash leaves nothing
    to clean up. The file stays; its content, the pid of the holder, only serves the message.
    Child processes that are started with close_fds, the default, do not inherit the lock.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        path = make_data_dir(self._data_dir) / LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartupRefused(
                f"The lock file {path} cannot be opened: {error.strerror}. "
                "The data directory must belong to the user that runs the server."
            ) from error
        try:
            self._lock(descriptor, path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def _lock(self, descriptor: int, data_dir: Path) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, _PID_DIGITS_MAX).decode(errors="replace").strip()
            raise DataDirBusy(
                f"The data directory {data_dir} is already served by process {holder or 'unknown'}. "
                "Stop that one first, or name another directory with --data-dir."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
