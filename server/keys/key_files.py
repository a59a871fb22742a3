"""Files that hold a key: how they are made, read, and kept from other users' eyes."""

from __future__ import annotations

import os
import secrets
import shlex
import stat
from pathlib import Path

from server.refusal import StartupRefused
from server.settings.data_dir import sync_directory

KEY_FILE_BYTES_MAX = 1 << 20


class SecretsError(StartupRefused):
    """A key is missing, malformed, or readable by others."""


def create_private_file(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, whole and on disk when this returns, or not there at all.

    Raises FileExistsError rather than replacing a file.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # whatever the umask took away
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(scratch)  # unlike a rename, fails where the name is taken
    finally:
        scratch.unlink()
    sync_directory(path.parent)


def read_private_file(path: Path) -> bytes | None:
    """Content of a key file, or None if there is none.

    Raises SecretsError where it can't be read, where others may read it, or where it is empty.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            closed = _on_a_read_only_volume(file.fileno())
            content = file.read(KEY_FILE_BYTES_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SecretsError(f"The key file {path} cannot be read: {error.strerror}.") from error
    complaint = exposure(status, read_only_volume=closed)
    if complaint:
        raise SecretsError(f"The key file {path} {complaint}. Close it with: {close_command(path)}")
    if not content.strip():
        raise SecretsError(
            f"{path}: the key file is empty; what wrote it was interrupted, or the disk was full. "
            "Restore it from your backup. If this server never served, remove the file "
            f"(rm {shlex.quote(str(path))}) and start again."
        )
    return content


def exposure(status: os.stat_result, *, read_only_volume: bool = False) -> str | None:
    """Who may read a key file beside its owner, or None where nobody may who should not.

    A group that this process belongs to may read it where this process can't close it: a file of
    mode 0440, one that another user owns, or one on a read-only volume. Kubernetes gives secrets
    to a pod like that (fsGroup).
    """
    mode = stat.S_IMODE(status.st_mode)
    shown = f"(mode {mode:04o})"
    if mode & 0o037:
        return f"may be read or changed by other users {shown}"
    if not mode & 0o040:
        return None
    if status.st_gid not in {os.getegid(), *os.getgroups()}:
        return f"may be read by group {status.st_gid}, which this process is not in {shown}"
    if mode & 0o200 and status.st_uid == os.geteuid() and not read_only_volume:
        return f"may be read by other users {shown}"
    return None


def close_command(path: Path) -> str:
    """The command that closes a key file to everybody but its owner."""
    return f"chmod 600 {shlex.quote(str(path))}"


def _on_a_read_only_volume(descriptor: int) -> bool:
    return bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
