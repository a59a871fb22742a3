"""A wall clock that a test sets, for all Python processes of one server.

A test can't set the machine's clock. So a folder is put on PYTHONPATH; Python imports the module
in it at its start, and that moves ``time.time`` by the seconds in the file beside it.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

_MODULE = """
import mmap, struct, time

with open({path!r}, "r+b") as file:
    _shared = mmap.mmap(file.fileno(), 8)
_time_ns = time.time_ns


def time_ns():
    return _time_ns() + struct.unpack("<q", _shared[:8])[0]


time.time_ns = time_ns
time.time = lambda: time_ns() / 1_000_000_000
"""


class WrongClock:
    """The wall clock of processes that are started with ``environ``, off by a settable time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._file = folder / "offset"
        self.set(0)
        self.module = folder / "sitecustomize.py"
        self.module.write_text(_MODULE.format(path=str(self._file)))
        path = os.environ.get("PYTHONPATH", "")
        self.environ = {"PYTHONPATH": f"{folder}{os.pathsep}{path}" if path else str(folder)}

    def set(self, seconds: float) -> None:
        """Set the offset; running processes have it at once."""
        file = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(file, struct.pack("<q", int(seconds * 1_000_000_000)), 0)
        os.close(file)
