"""Creates and reads key files, and checks that other users can't read them."""

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
    """Write a file of mode 0600; on return it is complete and on disk, else it does not exist.

    Raises FileExistsError rather than replacing a file. A crash leaves at most a scratch file.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # regardless of the umask
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(scratch)  # unlike a rename, fails where the name is taken
    finally:
        scratch.unlink()
    sync_directory(path.parent)


def read_private_file(path: Path) -> bytes | None:
    """Return the content of a key file, None if it does not exist.

    Raises SecretsError if it can't be read, if others may read it, or if it is empty.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            read_only_volume = _on_a_read_only_volume(file.fileno())
            content = file.read(KEY_FILE_BYTES_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SecretsError(f"The key file {path} cannot be read: {error.strerror}.") from error
    complaint = exposure(status, read_only_volume=read_only_volume)
    if complaint:
        raise SecretsError(f"The key file {path} {complaint}. Close it with: {close_command(path)}")
    if not content.strip():
        raise SecretsError(
            f"{path}: the key file is empty; writing it was interrupted, or the disk was full. "
            "Restore it from your backup. If this server was never used, remove the file "
            f"(rm {shlex.quote(str(path))}) and start again."
        )
    return content


def exposure(status: os.stat_result, *, read_only_volume: bool = False) -> str | None:
    """Return which other users may read a key file; None if only permitted users may.

    A group that this process belongs to may read the file if this process can't change its mode:
    a file of mode 0440, of another user, or on a read-only volume. Kubernetes mounts secrets in a
    pod like that (fsGroup).
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
    """Return the command that restricts a key file to its owner."""
    return f"chmod 600 {shlex.quote(str(path))}"


def restore_command(path: Path) -> str:
    """Return the command that brings a lost key file back."""
    name = shlex.quote(str(path))
    return f"cp BACKUP/{shlex.quote(path.name)} {name} && chmod 600 {name}"


def _on_a_read_only_volume(descriptor: int) -> bool:
    return bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
