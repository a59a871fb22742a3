"""The note in the data directory by which this machine's server processes remember its clock.

A process that starts while the clock is wrong did not see the leap: it learns from the note where
the clock was. One process keeps the note, under a lock that the kernel releases when it ends; the
others read it. Nothing depends on the file: a missing or damaged note, or one of another boot, is
ignored, and a crash while it is written leaves it damaged at worst.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec

NAME: Final = "clock.json"
_BYTES: Final = 512
"""The note is padded to this, so that one write in place replaces it."""
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_TIME_NAMESPACE: Final = Path("/proc/self/ns/time")


class ClockNote(msgspec.Struct, frozen=True):
    """The accepted offsets of the wall clock, in µs.

    ``boot_us`` is the difference to CLOCK_BOOTTIME of the boot named ``boot``, ``database_us``
    the accepted difference to the database's clock. ``believed_us``: when (CLOCK_BOOTTIME) a leap
    was last accepted, None for never.
    """

    boot: str
    boot_us: int
    database_us: int
    wall_us: int
    believed_us: int | None = None


def boot_name() -> str:
    """Return a name for this boot, as this process sees its clock; empty if unknown."""
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        return ""
    # A container may have a CLOCK_BOOTTIME of its own.
    with contextlib.suppress(OSError):
        boot += f" {_TIME_NAMESPACE.readlink()}"
    return boot


class NoteFile:
    """The note of one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / NAME
        self._kept: int | None = None

    def read(self) -> ClockNote | None:
        """Return the note, None if there is none."""
        try:
            with self._path.open("rb") as file:
                return msgspec.json.decode(file.read(_BYTES), type=ClockNote)
        except (OSError, msgspec.MsgspecError):
            return None

    def keep(self) -> bool:
        """Become the process that keeps the note; return False if another process keeps it.

        Returns True if no file can be made, because then no process can keep it.
        """
        if self._kept is not None:
            return True
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._kept = file
        return True

    def write(self, note: ClockNote) -> None:
        """Replace the note, if this process keeps it."""
        if self._kept is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._kept, msgspec.json.encode(note).ljust(_BYTES), 0)

    def close(self) -> None:
        """Release the note to another process."""
        if self._kept is not None:
            os.close(self._kept)
            self._kept = None
