"""Logs what a start waits for, after some seconds: locks of other sessions, or a standby."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from ledger.errors import StorageError
from ledger.storage.database import Connection, connect_as_owner, explained

_log = logging.getLogger("quire")

FIRST_REPORT_S: Final = 5.0
# The sessions that hold the locks for which sessions of this application name wait.
IN_THE_WAY: Final = """
SELECT DISTINCT b.pid, b.usename, b.application_name, b.client_addr, b.backend_start, b.state,
       CASE WHEN l.locktype = 'advisory' THEN 'an advisory lock'
            WHEN l.relation IS NOT NULL THEN 'a lock on ' || l.relation::regclass::text
            ELSE 'a lock' END
FROM pg_stat_activity w
JOIN pg_locks l ON l.pid = w.pid AND NOT l.granted
CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS blocking (pid)
JOIN pg_stat_activity b ON b.pid = blocking.pid
WHERE w.application_name = $1 AND w.datname = current_database()"""
# Whether the COMMIT of a session of this application name waits for a standby.
_WAITS_FOR_STANDBY: Final = """
SELECT EXISTS (SELECT FROM pg_stat_activity
               WHERE application_name = $1 AND datname = current_database()
                 AND wait_event_type = 'IPC' AND wait_event = 'SyncRep')"""
# The holders of an advisory lock, which nobody waits for; pg_locks has its number in two halves.
HOLDERS: Final = """
SELECT a.pid, a.usename, a.application_name, a.client_addr, a.backend_start, a.state
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.classid::bigint = $1::bigint >> 32 AND l.objid::bigint = $1::bigint & 4294967295
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


class GrowingIntervals:
    """Determines when to report a lasting condition: after 5, 10, 20, 40 … seconds."""

    def __init__(self, first_s: float = FIRST_REPORT_S) -> None:
        self._began = time.monotonic()
        self._next_s = first_s

    @property
    def lasted_s(self) -> float:
        """Seconds since the condition began."""
        return time.monotonic() - self._began

    @property
    def due_in_s(self) -> float:
        """Seconds until the next report is due."""
        return max(self._next_s - self.lasted_s, 0.0)

    def due(self) -> bool:
        """Return whether a report is due; True once for each interval."""
        if self.lasted_s < self._next_s:
            return False
        while self._next_s <= self.lasted_s:
            self._next_s *= 2
        return True


@asynccontextmanager
async def log_lock_waits(url: str, name: str) -> AsyncIterator[None]:
    """Log the blocking sessions while sessions of this application name wait during the block.

    A separate connection queries them. Without that connection the wait is logged, but not the
    blocking sessions.
    """
    watching = asyncio.create_task(_watch(url, name))
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _watch(url: str, name: str) -> None:
    intervals = GrowingIntervals()
    while True:
        await asyncio.sleep(intervals.due_in_s)
        if intervals.due():
            try:
                blockers, standby = await _blockers(url, name)
            except StorageError as error:
                _log.warning(
                    "the start has taken %.0f s; the sessions that block it can't be read: %s",
                    intervals.lasted_s,
                    error,
                )
                continue
            for row in blockers:
                _log.warning(
                    "the start has waited %.0f s for %s, held by %s",
                    intervals.lasted_s,
                    row[6],
                    described(row),
                )
            if standby:
                _log.warning(
                    "the start has waited %.0f s for a synchronous standby, which has not confirmed "
                    "a commit: bring it back, or take it out of synchronous_standby_names",
                    intervals.lasted_s,
                )


async def _blockers(url: str, name: str) -> tuple[list[Any], bool]:
    """Return the blocking sessions, and whether a COMMIT waits for a standby."""
    connection = await connect_as_owner(url, name="quire watch", command_timeout=FIRST_REPORT_S)
    try:
        async with explained():
            blockers = list(await connection.fetch(IN_THE_WAY, name))
            return blockers, await connection.fetchval(_WAITS_FOR_STANDBY, name)
    finally:
        connection.terminate()


async def holders(connection: Connection, number: int) -> str:
    """Describe the sessions that hold the advisory lock of this number."""
    async with explained():
        rows = await connection.fetch(HOLDERS, number)
    return "; ".join(described(row) for row in rows) or "a session that has just ended"


def described(row: Any) -> str:
    """Describe a session: its process id, application, user, address, start and state."""
    pid, user, application, address, since, state = row[:6]
    parts = [f"process {pid} of PostgreSQL"]
    if application:
        parts.append(f'application "{application}"')
    if user:
        parts.append(f'user "{user}"')
    parts.append(f"client {address}" if address else "client address not shown or a local socket")
    if since:
        parts.append(f"connected since {since:%Y-%m-%dT%H:%M:%SZ}")
    if state:
        parts.append(state)
    return ", ".join(parts)
