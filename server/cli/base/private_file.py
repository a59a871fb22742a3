"""Replacing a key file without a moment at which it is missing, half written or readable."""

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
    """Keep other writers of files in a directory out; the kernel frees a dead holder's lock."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_private_file(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 in the place of one that may exist; whole and on disk on return.

    A crash leaves the old content or the new one, at worst beside a scratch file. The owner
    stays: root may rotate the keys of a server that runs as somebody else.
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
