"""Connections: a pool under the server role, and the translation of asyncpg's errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias

import asyncpg

from ledger.errors import DatabaseAway, DatabaseUnavailable, StorageError
from ledger.storage.asking import current_turn, turns_of_pool, waited_too_long
from ledger.storage.connecting import naming_files, plain_text
from ledger.storage.pool import Pool
from ledger.storage.session import prepare_session

SERVER_ROLE: Final = "quire_server"
INDEXER_ROLE: Final = "quire_indexer"
"""Adds rows to the search index, and reads the tags of entries."""
SIGNER_ROLE: Final = "quire_signer"
"""Signs trees. The server's role can't become it, nor end its sessions."""
RETENTION_ROLE: Final = "quire_retention"
"""Seals months and drops them. The server's role can't become it."""
LOGIN_SETTINGS: Final = {
    SERVER_ROLE: "QUIRE_DATABASE_URL",
    INDEXER_ROLE: "QUIRE_DATABASE_URL",
    SIGNER_ROLE: "QUIRE_DATABASE_SIGNER_URL",
    RETENTION_ROLE: "QUIRE_DATABASE_RETENTION_URL",
}
"""The setting that names the login which acts as each role."""
APPLICATION: Final = "quire"
"""A connection's application name in pg_stat_activity; its purpose may follow."""
CONNECT_TIMEOUT_S: Final = 10.0
COMMAND_TIMEOUT_S: Final = 60.0

# The class is generic only in its type stubs, hence the quotes.
Connection: TypeAlias = "asyncpg.Connection[Any]"

CONNECTION_LOST: Final = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    # Besides garbled streams this includes TargetServerAttributeNotMatched: for some seconds
    # of a failover no host of the URL is the primary.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    asyncpg.exceptions.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
)
"""The errors of a lost, refused or demoted connection."""


def explain(error: BaseException) -> StorageError:
    """Translate an asyncpg or socket error to DatabaseAway or, while connected, DatabaseUnavailable."""
    text = plain_text(error) or _without_text(error)
    if isinstance(error, asyncpg.exceptions.ClientConfigurationError):
        return DatabaseUnavailable(f"the database's URL or a PG… variable can't be used: {text}")
    if isinstance(error, asyncpg.DiskFullError):
        return DatabaseUnavailable(f"the database has no disk space left: {text}")
    kind = DatabaseAway if isinstance(error, CONNECTION_LOST) else DatabaseUnavailable
    return kind(f"the database can't do this now: {text}")


def _without_text(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return "the connection failed"


@asynccontextmanager
async def explained() -> AsyncIterator[None]:
    """Turn the errors of asyncpg and the socket into DatabaseUnavailable."""
    try:
        yield
    except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
        raise explain(error) from error


async def connect(
    url: str,
    *,
    timeout: float = CONNECT_TIMEOUT_S,
    name: str = APPLICATION,
    role: str = SERVER_ROLE,
) -> Connection:
    """Open one connection as the server role, or another. Raises DatabaseUnavailable.

    ``url`` may name several hosts and ``target_session_attrs``.
    """
    async with explained():
        return await _open(url, partial(_become, role), timeout=timeout, name=name)


async def connect_as_owner(
    url: str, *, name: str = APPLICATION, command_timeout: float | None = None
) -> Connection:
    """Open one connection as the user of the URL. Raises DatabaseUnavailable."""
    async with explained():
        return await _open(url, name=name, command_timeout=command_timeout)


async def _open(
    url: str,
    *preparations: Callable[[Connection], Awaitable[None]],
    name: str,
    timeout: float = CONNECT_TIMEOUT_S,
    command_timeout: float | None = COMMAND_TIMEOUT_S,
) -> Connection:
    """Open a connection; all connections to Quire's database are opened here.

    Raises asyncpg's errors.
    """
    with naming_files(url):
        connection: Connection = await asyncpg.connect(
            url,
            timeout=timeout,
            command_timeout=command_timeout,
            # A pooler accepts this setting but refuses most others, which are set afterwards.
            server_settings={"application_name": name},
        )
    try:
        async with asyncio.timeout(timeout):
            for prepare in (prepare_session, *preparations):
                await prepare(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _become(role: str, connection: Connection) -> None:
    """Give up all rights but those of a role: of the server's, INSERT and SELECT on the trail."""
    if await connection.fetchval("SELECT current_user") != role:
        try:
            await connection.execute(f"SET ROLE {role}")
        except (
            asyncpg.InsufficientPrivilegeError,
            asyncpg.InvalidParameterValueError,
        ) as error:
            member = SERVER_ROLE if role == INDEXER_ROLE else "<login>"
            login = SERVER_ROLE if role == INDEXER_ROLE else role
            raise StorageError(
                f"the login of {LOGIN_SETTINGS[role]} can't act as {role}: {error}. Connect as "
                f"{login}, or grant it: GRANT {role} TO {member}"
            ) from None


_become_server_role: Final = partial(_become, SERVER_ROLE)


class Database:
    """A bounded pool of connections to one database, all under one role: the server's, if not named."""

    def __init__(self, url: str, pool: Pool, size: int) -> None:
        self.url = url
        self._pool = pool
        self._size = size
        self.turns = turns_of_pool(size)
        """Shares the connections between orgs and kinds of work."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        size: int = 10,
        name: str = APPLICATION,
        role: str = SERVER_ROLE,
    ) -> Database:
        """Open the pool. Raises DatabaseUnavailable if the database can't be reached."""

        async def opener() -> Connection:
            return await _open(url, partial(_become, role), name=name)

        pool = Pool(opener, size)
        async with explained():
            await pool.fill()
        return cls(url, pool, size)

    def pool_beside(
        self, prepare: Callable[[Connection], Awaitable[None]], *, size: int, name: str
    ) -> Pool:
        """Make another, still empty pool for one kind of work.

        ``prepare`` is called with each new connection. If the database allows too few
        connections for both pools, the other pool gives up connections to this one.
        """

        async def opener() -> Connection:
            return await _open(self.url, _become_server_role, prepare, name=name)

        return Pool(opener, size, lender=self._pool)

    async def close(self) -> None:
        """Close the pool; connections that do not close within a few seconds are terminated."""
        await self._pool.close(5)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Use a connection of the pool when it is the caller's turn.

        Database errors become DatabaseUnavailable. Raises QueueFull for an org of which too much
        waits, before anything was asked of the database.
        """
        turn = current_turn()
        self.turns.size = self._pool.room
        async with explained():
            try:
                await self.turns.take(turn, CONNECT_TIMEOUT_S)
            except TimeoutError:
                if turn.owner is None or not turn.refusable:
                    raise TimeoutError(f"all {self._size} connections are in use") from None
                raise waited_too_long(turn, CONNECT_TIMEOUT_S) from None
            try:
                async with self._pool.connection(CONNECT_TIMEOUT_S) as connection:
                    yield connection
            finally:
                self.turns.give_back(turn)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Use a connection in a transaction that commits at the end of the block."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """Return all rows of one query."""
        async with self.connection() as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record | None:
        """Return the first row of one query, or None."""
        async with self.connection() as connection:
            return await connection.fetchrow(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        """Run one statement and return its command tag."""
        async with self.connection() as connection:
            return await connection.execute(query, *args)
