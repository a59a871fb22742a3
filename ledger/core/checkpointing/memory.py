"""What was signed, remembered outside the database.

Before a checkpoint can become public its size and root are on disk here. A
database that was rolled back has forgotten them, this file has not; so a tree
is never signed again at that size with another root, nor found long enough
when it is shorter. A crash between the two leaves a size here that the database
does not have: the next round signs exactly that size again, which gives the same note.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from ledger.errors import QuireError

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS signed (
    org_id INTEGER PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL
)"""
_REMEMBER: Final = """
INSERT INTO signed (org_id, size, root) VALUES (?, ?, ?)
ON CONFLICT (org_id) DO UPDATE SET size = excluded.size, root = excluded.root
WHERE excluded.size >= signed.size"""
MEMORY_FILE: Final = "signed.sqlite"
"""Its name in the data directory."""
BUSY_TIMEOUT_S: Final = 5.0


class MemoryUnavailable(QuireError):
    """The signer's memory can't be read or written: nothing is signed without it."""


class Remembered(NamedTuple):
    """The largest tree head signed of one org."""

    size: int
    root: bytes


class Memory:
    """The file; one process has it open. Raises MemoryUnavailable from every method."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            path.chmod(0o600)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = FULL")
            self._file.executescript(_SCHEMA)
            rows = self._file.execute("SELECT org_id, size, root FROM signed").fetchall()
        except (sqlite3.Error, OSError) as error:
            raise MemoryUnavailable(self._explain(error)) from error
        self._signed = {row[0]: Remembered(row[1], row[2]) for row in rows}

    def get(self, org_id: int) -> Remembered | None:
        """The largest tree head signed of this org, or None."""
        return self._signed.get(org_id)

    def sizes(self) -> list[tuple[int, int]]:
        """All (org_id, size)."""
        return [(org_id, signed.size) for org_id, signed in self._signed.items()]

    def remember(self, heads: Iterable[tuple[int, int, bytes]]) -> None:
        """Keep these (org_id, size, root); on disk when this returns."""
        rows = list(heads)
        try:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.executemany(_REMEMBER, rows)
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            raise MemoryUnavailable(self._explain(error)) from error
        for org_id, size, root in rows:
            known = self._signed.get(org_id)
            if known is None or size >= known.size:
                self._signed[org_id] = Remembered(size, root)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _explain(self, error: Exception) -> str:
        return (
            f"the signer's memory {self._path} can't be used: {error}. Checkpoints are not signed "
            "until it can; free the disk or restore the file from your newest backup"
        )
