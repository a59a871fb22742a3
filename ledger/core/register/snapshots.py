"""When the register is stored, so that a start folds few entries and an old fault costs few rows.

Snapshots stand at seqs of one schedule, the same for all processes: the process that wrote the entry
at such a seq stores it. Their distance grows with the trail, so all together have some five times
the bytes of the newest one.
"""

from __future__ import annotations

from typing import Final

LEAST_ENTRIES: Final = 64
"""Entries between two snapshots at least."""
SHARE: Final = 4
"""A start folds at most about this part of the trail: a fourth, counted from the snapshot."""


def due_after(seq: int) -> int:
    """Return the seq of the snapshot after that of a seq."""
    return seq + max(LEAST_ENTRIES, seq // SHARE)


class SnapshotSchedule:
    """The next seq at which a snapshot is due."""

    def __init__(self) -> None:
        self.due = LEAST_ENTRIES

    def reaches(self, seq: int) -> bool:
        """Return whether a snapshot is due at this seq, and go on to the one after it."""
        is_due = seq == self.due
        while self.due <= seq:
            self.due = due_after(self.due)
        return is_due
