"""Checks whether a URL leads to sessions of PostgreSQL, by the behaviour of its connections.

Session locks (of migrations, the signer, the archiver), LISTEN, prepared statements and settings
belong to one session. A pooler that gives each transaction to any free server connection breaks
all of them, some only under load, and leaves locks without a holder. So does a pooler that hands
on a used session without a reset. PgBouncer in its session mode works.
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
from ledger.storage.connecting import naming_files
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
"""Timeout of a statement that should be answered at once."""
_FREED_S: Final = 10.0
"""Time for a session lock to be released after its session ended."""
_ROUNDS: Final = 2

# These checks must not depend on a session: statements have no names, and each runs in a
# transaction. pg_locks has the number of a lock in two halves.
LOCK_IS_HELD: Final = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks
               WHERE locktype = 'advisory' AND classid = $1 AND objid = $2 AND objsubid = 2
                 AND database = (SELECT oid FROM pg_catalog.pg_database
                                 WHERE datname = pg_catalog.current_database()))"""


async def require_sessions(url: str, setting: str) -> None:
    """Raise DatabaseUnfit unless connections of the URL are sessions; ``setting`` has the URL."""
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
            cause = error.__cause__ or error  # PgBouncer sends its reason and closes the connection
            if not isinstance(cause, asyncpg.ProtocolViolationError):
                raise
            raise DatabaseUnfit(_refusal(setting, f"it reports: {cause}")) from error


async def _require_one_backend_each(
    first: Connection, second: Connection, direct: bool, setting: str
) -> None:
    """Raise DatabaseUnfit unless each connection keeps its own server process in any order."""
    pids: dict[Connection, set[int]] = {first: set(), second: set()}
    for _ in range(_ROUNDS):
        for order in ((first, second), (second, first)):
            try:
                await _transactions(order, pids)
            except TimeoutError:
                if direct:
                    raise
                raise DatabaseUnfit(
                    _refusal(setting, "a second connection waits while the first has a transaction")
                ) from None
    if any(len(of_one) != 1 for of_one in pids.values()) or pids[first] & pids[second]:
        raise DatabaseUnfit(
            _refusal(
                setting,
                "it hands each transaction to another server connection (PgBouncer: pool_mode = "
                "transaction)",
            )
        )


async def _transactions(
    order: tuple[Connection, Connection], pids: dict[Connection, set[int]]
) -> None:
    """Run overlapping transactions, begun and ended in this order, and collect the process ids."""
    for connection in order:
        await connection.execute("BEGIN", timeout=_ANSWER_S)
        pids[connection].add(await connection.fetchval("SELECT pg_catalog.pg_backend_pid()"))
    for connection in order:
        await connection.execute("COMMIT", timeout=_ANSWER_S)


async def _require_locks_that_go(url: str, observer: Connection, setting: str) -> None:
    """Raise DatabaseUnfit unless a session lock is released soon after its connection closed."""
    number = secrets.randbits(31), secrets.randbits(31)
    async with _connected(url) as holder:
        await holder.execute("SELECT pg_catalog.pg_advisory_lock({}, {})".format(*number))
    deadline = time.monotonic() + _FREED_S
    while await _in_transaction(observer, LOCK_IS_HELD, *number):
        if time.monotonic() > deadline:
            raise DatabaseUnfit(
                _refusal(
                    setting,
                    "the lock of a closed connection is still held (PgBouncer: "
                    "server_reset_query must be DISCARD ALL)",
                )
            )
        await asyncio.sleep(0.05)


async def _is_direct(connection: Connection) -> bool:
    """Return whether the connection's process id is the server's own; a pooler invents one."""
    announced = connection.get_server_pid()
    query = f"SELECT WHERE pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) {announced}"
    return await connection.execute(query) == "SELECT 1"


async def _in_transaction(connection: Connection, query: str, *args: object) -> object:
    await connection.execute("BEGIN", timeout=_ANSWER_S)
    value: object = await connection.fetchval(query, *args)
    await connection.execute("COMMIT", timeout=_ANSWER_S)
    return value


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Connection]:
    """Connect without changing settings behind a pooler: they could stay in another's session."""
    with naming_files(url):
        connection: Connection = await asyncpg.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=_ANSWER_S,
            statement_cache_size=0,
            server_settings={"application_name": _NAME},
        )
    try:
        if await _is_direct(connection):
            await prepare_session(connection)  # switches off the role's timeouts
        yield connection
    finally:
        with contextlib.suppress(*CONNECTION_LOST, asyncpg.PostgresError):
            await connection.close(timeout=5)


def _refusal(setting: str, reason: str) -> str:
    return (
        f"{setting} leads to a pooler whose connections are not sessions of PostgreSQL: {reason}. "
        "Quire needs sessions for its locks, its notifications and its prepared statements: set "
        f"{setting} to the address of PostgreSQL itself, or configure the pooler to give whole "
        "sessions for this database (PgBouncer: pool_mode = session)."
    )
