"""Raises the limit of open files to what the connections of a process need."""

from __future__ import annotations

import resource
from typing import Final

from server.refusal import StartupRefused

OTHER_FILES: Final = 256
"""Files of one process beside its connections: logs, pipes to other processes, files being read."""


def raise_limit(connections: int, advice: str) -> None:
    """Raise the soft limit of open files for so many connections. Raises StartupRefused.

    ``advice`` says how to need fewer. Processes that this one starts inherit the limit.
    """
    needed = connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise StartupRefused(
            f"This process may open {hard} files, and needs up to {needed} for its connections. "
            "Raise the limit (ulimit -Hn, LimitNOFILE= of a systemd unit, --ulimit nofile= of "
            f"docker run), or {advice}"
        )
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError) as error:
        raise StartupRefused(
            f"The limit of open files can't be raised from {soft} to {needed}: {error}. Raise it "
            f"before the start (ulimit -n {needed}), or {advice}"
        ) from None
