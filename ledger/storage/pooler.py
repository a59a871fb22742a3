"""Whether a URL leads to sessions: found out by what its connections do, not by what they are.

Session locks (of migrations, the signer, the archiver), LISTEN, prepared statements and settings
belong to one session. A pooler that gives each transaction to whichever server connection is free
breaks all of them, some only under load, and leaves locks behind that nobody holds. So does one
that hands a used session on as it is. PgBouncer in its session mode is fine.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from ledger.errors import DatabaseUnfit
from ledger.storage.database import (
    APPLICATION,
    CONNECT_TIMEOUT_S,
    CONNECTION_LOST,
    Connection,
    explained,
)
from ledger.storage.session import prepare_session

_NAME: Final = f"{APPLICATION} start"
_ANSWER_S: Final = 5.0
"""For an answer to a statement that takes no time."""
_FREED_S: Final = 10.0
"""For a session lock to go with its session."""
_ROUNDS: Final = 2

# Nothing here may rest on a session: statements have no names, and each stands in a transaction.
# A lock in pg_locks has its number in two halves.
LOCK_IS_HELD: Final = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks
               WHERE locktype = 'advisory' AND classid = $1 AND objid = $2 AND objsubid = 2
                 AND database = (SELECT oid FROM pg_catalog.pg_database
                                 WHERE datname = pg_catalog.current_database()))"""


async def require_sessions(url: str, setting: str) -> None:
    """Raise DatabaseUnfit where connections of the URL are no sessions; ``setting`` has the URL."""
    async with explained():
        try:
            async with _connected(url) as first:
                direct = await _is_direct(first)
                try:
                    async with _connected(url) as second:
                        await _require_one_backend_each(first, second, direct, setting)
                        await _require_locks_that_go(url, second, setting)
                except asyncpg.TooManyConnectionsError:
                    if not direct:
                        raise
        except (asyncpg.ProtocolViolationError, asyncpg.ConnectionDoesNotExistError) as error:
            said = error.__cause__ or error  # PgBouncer closes the connection with its last word
            if not isinstance(said, asyncpg.ProtocolViolationError):
                raise
            raise DatabaseUnfit(_refusal(setting, f"it says: {said}")) from error


async def _require_one_backend_each(
    first: Connection, second: Connection, direct: bool, setting: str
) -> None:
    """Each connection keeps its own server process, whichever asks first, whatever others do."""
    found: dict[Connection, set[int]] = {first: set(), second: set()}
    for _ in range(_ROUNDS):
        for order in ((first, second), (second, first)):
            try:
                await _transactions(order, found)
            except TimeoutError:
                if direct:
                    raise
                raise DatabaseUnfit(
                    _refusal(setting, "a second connection waits while the first has a transaction")
                ) from None
    if any(len(pids) != 1 for pids in found.values()) or found[first] & found[second]:
        raise DatabaseUnfit(
            _refusal(
                setting,
                "it hands each transaction to another server connection (PgBouncer: pool_mode = "
                "transaction)",
            )
        )


async def _transactions(
    order: tuple[Connection, Connection], found: dict[Connection, set[int]]
) -> None:
    """A transaction on each, open at the same time, begun and ended in this order."""
    for connection in order:
        await connection.execute("BEGIN", timeout=_ANSWER_S)
        found[connection].add(await connection.fetchval("SELECT pg_catalog.pg_backend_pid()"))
    for connection in order:
        await connection.execute("COMMIT", timeout=_ANSWER_S)


async def _require_locks_that_go(url: str, observer: Connection, setting: str) -> None:
    """A session lock is free again soon after its connection closed."""
    number = secrets.randbits(31), secrets.randbits(31)
    async with _connected(url) as holder:
        await holder.execute("SELECT pg_catalog.pg_advisory_lock({}, {})".format(*number))
    deadline = time.monotonic() + _FREED_S
    while await _in_transaction(observer, LOCK_IS_HELD, *number):
        if time.monotonic() > deadline:
            raise DatabaseUnfit(
                _refusal(
                    setting,
                    "the lock of a connection that was closed is still held (PgBouncer: "
                    "server_reset_query must be DISCARD ALL)",
                )
            )
        await asyncio.sleep(0.05)


async def _is_direct(connection: Connection) -> bool:
    """Whether the process that works is the one that greeted us; a pooler makes a number up."""
    greeted = connection.get_server_pid()
    here = f"SELECT WHERE pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) {greeted}"
    return await connection.execute(here) == "SELECT 1"


async def _in_transaction(connection: Connection, query: str, *args: object) -> object:
    await connection.execute("BEGIN", timeout=_ANSWER_S)
    value: object = await connection.fetchval(query, *args)
    await connection.execute("COMMIT", timeout=_ANSWER_S)
    return value


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Connection]:
    """A connection that sets nothing before a pooler: it could stay with somebody else's session."""
    connection: Connection = await asyncpg.connect(
        url,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=_ANSWER_S,
        statement_cache_size=0,
        server_settings={"application_name": _NAME},
    )
    try:
        if await _is_direct(connection):
            await prepare_session(connection)  # no timeout of the role's may end it
        yield connection
    finally:
        with contextlib.suppress(*CONNECTION_LOST, asyncpg.PostgresError):
            await connection.close(timeout=5)


def _refusal(setting: str, reason: str) -> str:
    return (
        f"{setting} leads to a pooler whose connections are no sessions of PostgreSQL: {reason}. "
        "Quire needs sessions for its locks, its notifications and its prepared statements: set "
        f"{setting} to the address of PostgreSQL itself, or let the pooler give whole sessions "
        "(PgBouncer: pool_mode = session) for this database."
    )
