"""Replaces a key file atomically: it is never missing, half written or readable by others."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from server.keys.first_start import create_private_file
from server.settings.data_dir import sync_directory


@contextlib.contextmanager
def locked_directory(directory: Path) -> Iterator[None]:
    """Lock a directory against other writers; the kernel releases the lock of a dead process."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_private_file(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, replacing one that exists; complete and on disk on return.

    A crash leaves the old content or the new content, at worst with a scratch file beside it. The
    owner is kept, because root may rotate the keys of a server that runs as another user.
    """
    scratch = path.with_name(f".{path.name}.new-{secrets.token_hex(4)}")
    create_private_file(scratch, content)
    try:
        _give_to_owner(scratch, path)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _give_to_owner(scratch: Path, path: Path) -> None:
    if os.geteuid() == 0:
        before = (path if path.exists() else path.parent).stat()
        os.chown(scratch, before.st_uid, before.st_gid)
