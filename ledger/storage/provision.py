"""The database and its roles, created by a superuser before the first migration.

`quire_owner` owns the database and runs the migrations; it is not a superuser. `quire_server` is
the role of the running server: it may connect, and the migrations grant its other rights. The
builder of the search index connects like the server, and becomes `quire_indexer`. No role gets a password here. The embedded PostgreSQL needs none; an operator sets one with
``ALTER ROLE … PASSWORD`` or configures another method of authentication.
"""

import os

import asyncpg

from ledger.storage.lock_waits import log_lock_waits
from ledger.storage.session import prepare_session

OWNER_ROLE = "quire_owner"
SERVER_ROLE = "quire_server"
INDEXER_ROLE = "quire_indexer"
DATABASE = "quire"

# Two servers may provision at once; the number must differ from other advisory locks.
_LOCK = 0x7175697265  # "quire"

_ROLE_EXISTS = "SELECT true FROM pg_roles WHERE rolname = $1"
_CREATE_ROLE = "CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION"
_CREATE_INDEXER = "CREATE ROLE {indexer} NOLOGIN"
# Before PostgreSQL 16 a member also has the rights of the role without becoming it.
_GRANT_INDEXER = "GRANT {indexer} TO {server}"
_WITHOUT_INHERITING = " WITH INHERIT FALSE, SET TRUE"
_GRANT_OPTIONS_SINCE = 16
_DATABASE_EXISTS = "SELECT true FROM pg_database WHERE datname = $1"
# Byte order is the same on every machine, and indexes stay valid after an upgrade of the C library.
_CREATE_DATABASE = (
    "CREATE DATABASE {database} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8' "
    "LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"
)
_CLOSE_TO_OTHERS = "REVOKE ALL ON DATABASE {database} FROM PUBLIC"
_OPEN_TO_SERVER = "GRANT CONNECT ON DATABASE {database} TO {server}"


async def provision(superuser_url: str, database: str = DATABASE) -> None:
    """Create the roles and the database where they are missing; it can be run repeatedly.

    Works on PostgreSQL 15 to 18. Raises asyncpg.PostgresError, such as
    InsufficientPrivilegeError for a role that is not a superuser.
    """
    name = f"quire provision {os.getpid()}"
    connection = await asyncpg.connect(superuser_url, server_settings={"application_name": name})
    try:
        await prepare_session(connection)
        async with log_lock_waits(superuser_url, name):
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
            for role in (OWNER_ROLE, SERVER_ROLE):
                if not await connection.fetchval(_ROLE_EXISTS, role):
                    await connection.execute(_CREATE_ROLE.format(role=_identifier(role)))
            await _provide_indexer(connection)
            await _provide_database(connection, database)
    finally:
        await connection.close()  # releases the lock


async def _provide_indexer(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    names = {"indexer": _identifier(INDEXER_ROLE), "server": _identifier(SERVER_ROLE)}
    if await connection.fetchval(_ROLE_EXISTS, INDEXER_ROLE):
        return
    inherits = connection.get_server_version().major < _GRANT_OPTIONS_SINCE
    granted = _GRANT_INDEXER + ("" if inherits else _WITHOUT_INHERITING)
    # One transaction: no crash leaves the role without its member.
    await connection.execute(f"{_CREATE_INDEXER}; {granted}".format(**names))


async def _provide_database(
    connection: "asyncpg.Connection[asyncpg.Record]", database: str
) -> None:
    names = {
        "database": _identifier(database),
        "owner": _identifier(OWNER_ROLE),
        "server": _identifier(SERVER_ROLE),
    }
    if not await connection.fetchval(_DATABASE_EXISTS, database):
        await connection.execute(_CREATE_DATABASE.format(**names))
    await connection.execute(_CLOSE_TO_OTHERS.format(**names))
    await connection.execute(_OPEN_TO_SERVER.format(**names))


def _identifier(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
