"""The state of a witness: the newest checkpoint that it cosigned of each log.

It is SQLite, because check and write must be one step for any number of threads and processes,
and on disk before a cosignature is sent: one write transaction per submission, a write-ahead log
synced at every commit, and a trigger that keeps a log from going back, whatever the code above
does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from server.refusal import StartupRefused
from server.settings.data_dir import sync_directory

BUSY_TIMEOUT_S: Final = 5.0
_VERSION: Final = 1
_SCHEMA: Final = f"""
PRAGMA synchronous = FULL;
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE heads (
    origin TEXT PRIMARY KEY,
    size   INTEGER NOT NULL CHECK (size >= 0),
    root   BLOB NOT NULL CHECK (length(root) = 32),
    time_s INTEGER NOT NULL,
    note   BLOB NOT NULL
) STRICT;
CREATE TRIGGER heads_never_go_back BEFORE UPDATE ON heads
WHEN new.origin <> old.origin OR new.size < old.size
     OR (new.size = old.size AND new.root <> old.root)
BEGIN SELECT RAISE(ABORT, 'a head never goes back'); END;
CREATE TRIGGER heads_never_go BEFORE DELETE ON heads
BEGIN SELECT RAISE(ABORT, 'a head never goes'); END;
PRAGMA user_version = {_VERSION};
COMMIT;
"""
_SELECT: Final = "SELECT origin, size, root, time_s, note FROM heads"
_UPSERT: Final = """
INSERT INTO heads (origin, size, root, time_s, note) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (origin) DO UPDATE
SET size = excluded.size, root = excluded.root, time_s = excluded.time_s, note = excluded.note
"""


@dataclass(frozen=True, slots=True)
class LogHead:
    """The newest cosigned checkpoint of a log; ``root`` 32 bytes, ``time_s`` POSIX seconds."""

    origin: str
    size: int
    root: bytes
    time_s: int
    note: bytes


class WitnessHeads:
    """The state file, for one thread. Raises StartupRefused if it is missing or foreign."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            # With a new file every log could begin again from nothing.
            raise StartupRefused(
                f"The witness's state file {path} is missing. Restore it from your backup, and "
                "inform the logs; without it a rolled-back log would be cosigned again."
            )
        self._path = path
        self._database = _connect(path)
        try:
            self._check()
        except BaseException:
            self._database.close()
            raise

    @staticmethod
    def create(path: Path) -> None:
        """Create an empty state file; on return it is complete and on disk.

        A crash leaves at most a scratch file, which the next call replaces.
        """
        scratch = path.with_name(f".{path.name}.new")
        scratch.unlink(missing_ok=True)
        scratch.touch(mode=0o600)
        with closing(_connect(scratch)) as database:
            database.executescript(_SCHEMA)
        scratch.rename(path)
        sync_directory(path.parent)

    def close(self) -> None:
        self._database.close()

    def all(self) -> list[LogHead]:
        """Return the heads of all logs, by origin."""
        return [LogHead(*row) for row in self._database.execute(f"{_SELECT} ORDER BY origin")]

    def find(self, origin: str) -> LogHead | None:
        """Return the head of a log, None if none was cosigned."""
        row = self._database.execute(f"{_SELECT} WHERE origin = ?", (origin,)).fetchone()
        return None if row is None else LogHead(*row)

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Run a write transaction, which excludes all others until it ends.

        A head kept in it is on disk on return. An exception or a crash leaves the state
        unchanged. Raises sqlite3.Error.
        """
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def keep(self, head: LogHead) -> None:
        """Replace the head of a log; only within :meth:`exclusively`."""
        assert self._database.in_transaction
        values = (head.origin, head.size, head.root, head.time_s, head.note)
        self._database.execute(_UPSERT, values)

    def _check(self) -> None:
        try:
            self._database.execute("PRAGMA synchronous = FULL")
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            (found,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            raise StartupRefused(
                f"The witness's state file {self._path} can't be read: {error}. Restore it from "
                "your backup."
            ) from error
        if found != "ok" or version != _VERSION:
            raise StartupRefused(
                f"The witness's state file {self._path} is damaged or of another version "
                f"({version}: {found}). Restore it from your backup."
            )


def _connect(path: Path) -> sqlite3.Connection:
    # This module begins transactions; the connection passes from the opener to one worker thread.
    return sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
