"""Locks that one role alone can take, for the one process that signs, and the one that drops months.

Every role can take an advisory lock, and so hold off whoever waits for it. These are locks of empty
tables in schemas that only one role may use, held in a transaction that stays open. It reads
nothing, so it holds back no vacuum. The sessions belong to another role than the server's, which
therefore can't end them.
"""

from __future__ import annotations

from typing import Final

import asyncpg

from ledger.storage.database import Connection, connect, explained
from ledger.storage.lock_waits import described

SIGNING: Final = "quire_signing.leader"
RETAINING: Final = "quire_retaining.leader"

# EXCLUSIVE conflicts with itself and not with the reads of pg_dump.
_LOCK: Final = "LOCK TABLE {} IN EXCLUSIVE MODE NOWAIT"
_ALIVE: Final = "SELECT 1"
HOLDERS: Final = """
SELECT a.pid, a.usename, a.application_name, a.client_addr, a.backend_start, a.state
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.relation = $1::text::regclass
  AND l.mode = 'ExclusiveLock'
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


class RoleLock:
    """A session that takes the lock of one table. Its methods raise StorageError."""

    def __init__(self, connection: Connection, table: str) -> None:
        self._connection = connection
        self._table = table
        self._held = False

    @classmethod
    async def connect(cls, url: str, role: str, table: str, *, name: str) -> RoleLock:
        """Open the session as the role that may lock the table."""
        connection = await connect(url, name=name, role=role)
        try:
            async with explained():
                # If the holder's machine fails, its lock must not last for hours.
                await connection.execute(
                    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5;"
                    "SET tcp_keepalives_count = 3"
                )
        except BaseException:
            connection.terminate()
            raise
        return cls(connection, table)

    @property
    def pid(self) -> int:
        """The process of PostgreSQL that holds the lock."""
        return self._connection.get_server_pid()

    async def take(self) -> bool:
        """Acquire or keep the lock; False while another session holds it."""
        async with explained():
            if self._held:
                # The lock lasts as long as the session. An error here means that both are gone.
                await self._connection.execute(_ALIVE)
                return True
            await self._connection.execute("BEGIN")
            try:
                await self._connection.execute(_LOCK.format(self._table))
            except asyncpg.LockNotAvailableError:
                await self._connection.execute("ROLLBACK")
                return False
        self._held = True
        return True

    async def holder(self) -> str:
        """Describe the session that holds the lock."""
        async with explained():
            rows = await self._connection.fetch(HOLDERS, self._table)
        return "; ".join(map(described, rows)) or "a session that has just ended"

    def close(self) -> None:
        """Release the lock by closing the session."""
        self._connection.terminate()
