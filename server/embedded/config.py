"""The server settings of the embedded PostgreSQL."""

import os
from pathlib import Path

PORT = 5432  # only a part of the socket's name: there is no TCP
SOCKET_PATH_BYTES_MAX = 107  # sun_path of sockaddr_un, without the closing NUL
_SHARED_BUFFERS_MIN = 128 << 20
_SHARED_BUFFERS_MAX = 2 << 30
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory_bytes() -> int:
    """Return the memory of this machine or container, whichever is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in _CGROUP_LIMITS:
        try:
            total = min(total, int(limit.read_text(encoding="ascii")))
        except (OSError, ValueError):  # not this cgroup version, or "max"
            continue
    return total


def shared_buffers_bytes(memory: int) -> int:
    """Return a quarter of the memory, within 128 MiB and 2 GiB."""
    return min(max(memory // 4, _SHARED_BUFFERS_MIN), _SHARED_BUFFERS_MAX)


def server_settings(*, cluster_name: str, socket_dir: Path, log_dir: Path) -> str:
    """Return the text of `quire.conf`, which is rewritten at every start.

    `postgresql.conf` includes it; a line after that include overrides it.
    """
    settings: dict[str, str | int] = {
        # Only users that can enter the socket's directory (0700) can connect.
        "listen_addresses": "",
        "unix_socket_directories": _list_item(socket_dir),
        "unix_socket_permissions": "0700",
        "port": PORT,
        "max_connections": 200,
        "cluster_name": cluster_name,  # in process titles, to find the processes that a crash leaves
        "shared_buffers": f"{shared_buffers_bytes(memory_bytes()) >> 20}MB",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "jit": "off",  # short statements only
        "timezone": "UTC",
        "log_timezone": "UTC",
        "logging_collector": "on",
        "log_directory": str(log_dir),
        "log_filename": "postgresql-%Y%m%d_%H%M%S.log",
        "log_file_mode": "0600",
        "log_rotation_size": "16MB",
        "log_rotation_age": 0,
    }
    return "".join(f"{name} = {_quoted(str(value))}\n" for name, value in settings.items())


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _list_item(path: Path) -> str:
    """Return one item of a comma-separated list setting."""
    escaped = str(path).replace('"', '""')
    return f'"{escaped}"'
