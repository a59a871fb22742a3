"""The data directory: its creation, and the lock that gives it one serving process."""

import contextlib
import errno
import fcntl
import os
import pwd
import shlex
import stat
from pathlib import Path
from typing import Self

from server.refusal import StartupRefused

LOCK_NAME = "serve.lock"
_PID_DIGITS_MAX = 32
_PARENT_MODE = 0o755  # less what the umask takes away


class DataDirBusy(StartupRefused):
    """Another process serves this data directory."""


def make_data_dir(path: Path) -> Path:
    """Create the data directory if it is missing and return its absolute path.

    Only its owner may use it (0700). Root creates it with the search bit for others (0711),
    because the embedded PostgreSQL runs as another user and has its cluster inside; others can
    still not list names, and every key file is 0600. The umask does not change these modes. The
    permissions of an existing directory are not changed; `concerns` reports what is wrong.
    """
    try:
        path = path.expanduser().resolve()
        _make(path)
    except (OSError, RuntimeError, ValueError) as error:
        raise StartupRefused(
            f"The data directory {path} cannot be created: {_reason(path, error)}. "
            "Name another one with QUIRE_DATA_DIR or --data-dir."
        ) from error
    return path


def _make(path: Path) -> None:
    """Create the directory and its parents, or nothing."""
    if path.is_dir():
        return
    missing = [folder for folder in [path, *path.parents] if not folder.exists()]
    made: list[Path] = []
    try:
        for folder in reversed(missing):
            try:
                folder.mkdir(mode=_PARENT_MODE)
            except FileExistsError:  # another process made it in between
                continue
            made.append(folder)
            _set_mode(folder, own=folder == path)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except BaseException:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _set_mode(folder: Path, *, own: bool) -> None:
    root = os.geteuid() == 0
    if own:
        folder.chmod(0o711 if root else 0o700)
    elif root:  # the user of the embedded PostgreSQL passes through, under any umask
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o711)
    else:
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o700)


def _reason(path: Path, error: Exception) -> str:
    for folder in reversed([path, *path.parents]):
        with contextlib.suppress(OSError):
            if folder.is_symlink() and not folder.exists():
                return f"{folder} is a link to a place that does not exist"
            if folder.exists() and not folder.is_dir():
                return f"{folder} is not a directory"
    if isinstance(error, RuntimeError):  # of pathlib, also for ~ of a user that does not exist
        return "its path is a loop of links, or begins with the home of an unknown user"
    return getattr(error, "strerror", None) or str(error)


def concerns(path: Path, what: str = "the data directory") -> list[tuple[str, str]]:
    """Return what is wrong with the owner and mode of a directory of keys, each with a command."""
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    name = shlex.quote(str(path))
    found = []
    if status.st_uid != os.geteuid():
        me, owner = _user(os.geteuid()), _user(status.st_uid)
        found.append(
            (
                f"{what} belongs to user {owner}, who can replace every key in it, and "
                f"the server runs as {me}",
                f"chown {me} {name}, or start the server as {owner}",
            )
        )
    allowed = 0o711 if os.geteuid() == 0 else 0o700
    if mode & 0o777 & ~allowed:
        found.append(
            (
                f"other users may enter, read or change {what} (mode {mode:04o})",
                f"chmod {allowed:o} {name}",
            )
        )
    return found


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def sync_directory(path: Path) -> None:
    """Make files created or renamed in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DataDirLock:
    """Context manager: this process alone serves the data directory.

    The kernel releases the lock (flock) when the process ends, so a crash leaves nothing to clean
    up. The file stays; its content, the pid of the holder, is only used in the message.
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
                "Stop that process first, or name another directory with --data-dir."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
