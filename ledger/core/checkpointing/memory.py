"""The signer's memory: the signed tree heads, stored outside the database.

Before a checkpoint can become public, its size and root are on disk here. A
database that was rolled back has lost them, this file has not. So no tree is
signed twice at one size with different roots, and a trail that is shorter than its
signed tree is found.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from ledger.checkpoint import SignedTreeHead
from ledger.entry import HASH_BYTES
from ledger.errors import QuireError

# ``digest`` is over the rest of the row: a flipped bit on this disk must not look like
# a rewritten history.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS signed (
    org_id INTEGER PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, digest BLOB NOT NULL
) STRICT"""
# The log that the file belongs to: hex digest of the statement of the log's first key. One row.
_LOG_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS log (one INTEGER PRIMARY KEY CHECK (one = 1), first_key TEXT NOT NULL)
STRICT"""
_LOG: Final = "SELECT first_key FROM log"
_BELONG: Final = "INSERT INTO log (one, first_key) VALUES (1, ?) ON CONFLICT DO NOTHING"
_REMEMBER: Final = """
INSERT INTO signed (org_id, size, root, digest) VALUES (?, ?, ?, ?)
ON CONFLICT (org_id) DO UPDATE
SET size = excluded.size, root = excluded.root, digest = excluded.digest
WHERE excluded.size >= signed.size"""
_FORGET: Final = "DELETE FROM signed WHERE org_id = ?"
_VERSION: Final = "PRAGMA data_version"
"""Changes when another connection changed the file."""
_READ: Final = "SELECT org_id, size, root, digest FROM signed"
MEMORY_FILE: Final = "signed.sqlite"
"""The file's name in the data directory."""
BUSY_TIMEOUT_S: Final = 5.0
_BUSY_PAUSE_S: Final = 0.01


class SignerMemoryUnavailable(QuireError):
    """The signer's memory can't be read or written: nothing is signed without it."""


class SignerMemory:
    """The memory file, opened by one process. Every method raises SignerMemoryUnavailable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        try:
            path.chmod(0o600)
            _use_write_ahead_log(self._file)
            self._file.execute("PRAGMA synchronous = FULL")
            self._file.execute(_SCHEMA)
            self._file.execute(_LOG_SCHEMA)
            self._version = self._file.execute(_VERSION).fetchone()
            self._signed = dict(map(_read, self._file.execute(_READ)))
            self._inode = path.stat().st_ino
        except (sqlite3.Error, OSError, ValueError) as error:
            self._file.close()
            raise self._unavailable(error) from error

    def __len__(self) -> int:
        """The number of trees remembered; 0 for a new file."""
        return len(self._signed)

    def belong(self, first_key: str) -> None:
        """Bind a new memory to a log: ``first_key`` is the hex digest of its first key's statement.

        Raises SignerMemoryUnavailable for the memory of another log.
        """
        # A crash here leaves a memory bound to no log; the next start binds it.
        try:
            self._file.execute(_BELONG, (first_key,))
            (own,) = self._file.execute(_LOG).fetchone()
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        if own != first_key:
            raise SignerMemoryUnavailable(
                f"the signer's memory {self._path} belongs to another log than the log keys: "
                "nothing is signed. Restore the memory of these keys, or move this file away"
            )

    def get(self, org_id: int) -> SignedTreeHead | None:
        """The largest signed tree head of this org, or None."""
        return self._signed.get(org_id)

    def sizes(self) -> list[tuple[int, int]]:
        """(org_id, size) of every tree remembered."""
        return [(org_id, signed.size) for org_id, signed in self._signed.items()]

    def refresh(self) -> None:
        """Read the file again if another process changed it: an operator accepted a loss."""
        try:
            version = self._file.execute(_VERSION).fetchone()
            if version != self._version:
                self._signed = dict(map(_read, self._file.execute(_READ)))
                self._version = version
        except (sqlite3.Error, ValueError) as error:
            raise self._unavailable(error) from error

    def forget(self, org_id: int) -> None:
        """Forget the signed tree head of an org, after an entry of its trail says why."""
        try:
            # A crash before this line leaves the head remembered: the caller does it again.
            self._file.execute(_FORGET, (org_id,))
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        self._signed.pop(org_id, None)

    def remember(self, heads: Iterable[tuple[int, int, bytes]]) -> None:
        """Store these (org_id, size, root); they are on disk when this returns."""
        rows = list(heads)
        try:
            if self._path.stat().st_ino != self._inode:  # a missing file raises OSError here
                raise OSError("another file has taken its place")
            self._file.execute("BEGIN IMMEDIATE")
            self._file.executemany(_REMEMBER, [(*row, _digest(*row)) for row in rows])
            # A crash here leaves the memory as it was: SQLite drops the open transaction.
            self._file.execute("COMMIT")
            # A crash here leaves all these heads remembered; see where they are signed
            # (signing.py, anchoring.py) for what the next round does with them.
        except (sqlite3.Error, OSError) as error:
            if self._file.in_transaction:
                self._file.rollback()
            raise self._unavailable(error) from error
        for org_id, size, root in rows:
            known = self._signed.get(org_id)
            if known is None or size >= known.size:
                self._signed[org_id] = SignedTreeHead(size, root)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _unavailable(self, error: Exception) -> SignerMemoryUnavailable:
        return SignerMemoryUnavailable(
            f"the signer's memory {self._path} can't be used: {error}. No checkpoint is signed "
            "until it can be; free disk space, or restore the file from your newest backup"
        )


def log_of(path: Path) -> str | None:
    """The log that a memory is bound to (see `belong`); None for an unbound or missing memory.

    Raises SignerMemoryUnavailable.
    """
    try:
        with closing(_read_only(path)) as file:
            if not file.execute("SELECT 1 FROM sqlite_master WHERE name = 'log'").fetchone():
                return None
            row = file.execute(_LOG).fetchone()
            return None if row is None else str(row[0])
    except FileNotFoundError:
        return None
    except (sqlite3.Error, OSError) as error:
        raise _unreadable(path, error) from error


def recall(path: Path, org_ids: Collection[int]) -> dict[int, SignedTreeHead]:
    """The largest signed tree heads of these orgs, for readers of the file; empty without a file.

    Raises SignerMemoryUnavailable.
    """
    marks = ", ".join("?" * len(org_ids))
    try:
        with closing(_read_only(path)) as file:
            rows = file.execute(f"{_READ} WHERE org_id IN ({marks})", tuple(org_ids))
            return dict(map(_read, rows))
    except FileNotFoundError:
        return {}
    except (sqlite3.Error, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _use_write_ahead_log(file: sqlite3.Connection) -> None:
    """Switch a file to a write-ahead log; wait as long as for any lock while another process does.

    SQLite itself does not wait for this lock: two signers that make the file would be two failures.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            file.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_BUSY_PAUSE_S)
        else:
            return


def _read_only(path: Path) -> sqlite3.Connection:
    """Open an existing memory. Raises FileNotFoundError."""
    if not path.exists():
        raise FileNotFoundError(path)
    address = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(address, timeout=BUSY_TIMEOUT_S, uri=True)


def _unreadable(path: Path, error: Exception) -> SignerMemoryUnavailable:
    return SignerMemoryUnavailable(
        f"the signer's memory {path} can't be read: {error}. Without it a rollback of the "
        "database goes unnoticed; free disk space, or restore the file from your newest backup"
    )


def _digest(org_id: int, size: int, root: bytes) -> bytes:
    return sha256(b"%d %d " % (org_id, size) + root).digest()


def _read(row: tuple[Any, ...]) -> tuple[int, SignedTreeHead]:
    org_id, size, root, digest = row
    if len(root) != HASH_BYTES or digest != _digest(org_id, size, root):
        raise ValueError("one of its rows is damaged")
    return org_id, SignedTreeHead(size, root)
