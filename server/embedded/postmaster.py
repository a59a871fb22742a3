"""Finds the processes that use a PostgreSQL data directory, and reads its lock file.

Processes are recognised by their command line, which every user may read: the postmaster's
names the data directory, its children's titles begin with the cluster name. A process id alone
proves nothing, because ids are reused.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

PID_FILE = "postmaster.pid"
_PROC = Path("/proc")
_PID_FILE_LINES = 8


@dataclass(frozen=True, slots=True)
class Postmaster:
    """Content of `postmaster.pid`; `status` is starting, ready, standby or stopping."""

    pid: int
    port: int
    socket_dir: Path
    status: str


def read_pid_file(data: Path) -> Postmaster | None:
    """Read the lock file; return None if it does not exist or is not complete yet."""
    try:
        lines = os.fsdecode((data / PID_FILE).read_bytes()).splitlines()
        if len(lines) < _PID_FILE_LINES:
            return None
        return Postmaster(int(lines[0]), int(lines[3]), Path(lines[4]), lines[7].strip())
    except (OSError, ValueError):
        return None


def is_postmaster(pid: int, data: Path) -> bool:
    """Return whether this process is alive and the postmaster of this data directory."""
    if not _PROC.joinpath("self").exists():
        return _exists(pid)
    # A zombie, which is dead and only waits to be reaped, has no command line.
    return os.fsencode(data) in _command_line(pid).split(b"\0")


def reap(pid: int) -> None:
    """Collect an adopted postmaster that died: needed where this process is the container's init."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def orphans(cluster_name: str) -> list[int]:
    """Return the processes of the cluster other than the postmaster, which outlived it."""
    title = f"postgres: {cluster_name}: ".encode()
    pids = [int(entry.name) for entry in _PROC.glob("[0-9]*")]
    return [pid for pid in pids if _command_line(pid).startswith(title)]


def _command_line(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
