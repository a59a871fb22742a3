"""Ends every process of a test session and removes its directory, however the session ends.

It is a child process whose standard input is a pipe of the test session. When the pipe closes, by
teardown, by a crash or by kill -9, it kills every process that names the directory on its command
line or in its environment (PostgreSQL, servers that tests started), then removes the directory.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

ROUNDS_MAX = 200


def processes_of(directory: str) -> list[int]:
    """Ids of the processes, other than this one, that were started for the directory."""
    needle = os.fsencode(directory)
    return [
        int(entry.name)
        for entry in Path("/proc").glob("[0-9]*")
        if int(entry.name) != os.getpid() and needle in _words(entry)
    ]


def _words(entry: Path) -> bytes:
    words = b""
    for name in ("cmdline", "environ"):
        with contextlib.suppress(OSError):
            words += (entry / name).read_bytes()
    return words


def main(directory: str) -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # Ctrl-C is for the session; this process ends after it
    sys.stdin.buffer.read()
    for _ in range(ROUNDS_MAX):
        pids = processes_of(directory)
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)
        if not pids and not Path(directory).exists():
            return
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1])
