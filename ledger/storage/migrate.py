"""The migration runner: numbered plain-SQL files, forward only, checksummed.

Each file runs in a transaction of its own under one advisory lock, so servers
that start together migrate once. A crash leaves whole files only.
"""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from ledger.errors import MigrationError
from ledger.storage.database import (
    CONNECTION_LOST,
    Connection,
    Database,
    connect_as_owner,
    explain,
    explained,
)
from ledger.storage.lock_waits import told_when_waiting
from ledger.storage.pooler import require_sessions

_ADVISORY_LOCK: Final = 7_305_804_402
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
MIN_SERVER_VERSION: Final = 15

CREATE_HISTORY = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""
READ_HISTORY = "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
RECORD = "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)"


class Migration(NamedTuple):
    """One migration file: its number, name, text and SHA-256 as hex."""

    version: int
    name: str
    sql: str
    checksum: str


def migrations_folder() -> Path:
    """Where the files are: beside the packages in a checkout, inside them when installed."""
    package = Path(__file__).parents[1]
    for folder in (package / "_migrations", package.parent / "migrations"):
        if folder.is_dir():
            return folder
    raise MigrationError("the migration files are missing from this installation; reinstall quire")


def load(folder: Path | None = None) -> list[Migration]:
    """All migrations, oldest first. Raises MigrationError where numbers are not 1, 2, 3, …"""
    found = []
    for path in sorted((folder or migrations_folder()).glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name}: a migration is named 0001_what_it_does.sql")
        text = path.read_bytes()
        found.append(Migration(int(match[1]), match[2], text.decode(), sha256(text).hexdigest()))
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("migrations must be numbered 0001, 0002, … without gaps")
    return found


async def migrate(
    owner_url: str,
    *,
    dry_run: bool = False,
    folder: Path | None = None,
    setting: str = "QUIRE_DATABASE_OWNER_URL",
) -> list[str]:
    """Bring the schema to this code's version; returns the names of what ran (or would).

    ``setting`` has the URL. Raises MigrationError where the database is newer than the code, a
    file that ran was changed since, or PostgreSQL is older than 15; DatabaseUnfit where the
    database or a pooler before it can't keep our promises.
    """
    wanted = load(folder)
    await require_sessions(owner_url, setting)
    name = f"quire migrate {os.getpid()}"
    connection = await connect_as_owner(owner_url, name=name)
    try:
        _require_version(connection)
        async with told_when_waiting(owner_url, name):
            return await _migrate(connection, wanted, dry_run)
    finally:
        await _release(connection)


async def _release(connection: Connection) -> None:
    """Unlock before the end: a pooler may keep the session of a connection that just goes."""
    try:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock_all()", timeout=5)
        await connection.close(timeout=5)
    except (*CONNECTION_LOST, asyncpg.PostgresError):
        connection.terminate()


def _require_version(connection: Connection) -> None:
    version = connection.get_server_version()
    if version.major < MIN_SERVER_VERSION:
        raise MigrationError(
            f"PostgreSQL {version.major} is too old; Quire needs {MIN_SERVER_VERSION} or newer"
        )


async def _migrate(connection: Connection, wanted: list[Migration], dry_run: bool) -> list[str]:
    async with explained():
        await connection.execute("SET statement_timeout = '10min'")
        await connection.execute("SELECT pg_advisory_lock($1)", _ADVISORY_LOCK)
        pending = pending_of(await _history(connection), wanted)
        if pending and not dry_run:
            await connection.execute(CREATE_HISTORY)
    for migration in pending:
        if not dry_run:
            await _apply(connection, migration)
    if not dry_run and pending:
        async with explained():
            await connection.execute("GRANT SELECT ON schema_migrations TO quire_server")
    return [f"{migration.version:04d}_{migration.name}" for migration in pending]


async def _history(connection: Connection) -> list[tuple[int, str, str]]:
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return []
    return [tuple(row) for row in await connection.fetch(READ_HISTORY)]


def pending_of(applied: list[tuple[int, str, str]], wanted: list[Migration]) -> list[Migration]:
    """What is still to run, after checking that what ran is what this code has."""
    if len(applied) > len(wanted):
        raise MigrationError(
            f"the database is at schema version {applied[-1][0]}, newer than this code's "
            f"{len(wanted)}; upgrade quire on this machine"
        )
    for (version, name, checksum), migration in zip(applied, wanted, strict=False):
        if (version, checksum) != (migration.version, migration.checksum):
            raise MigrationError(
                f"migration {version:04d}_{name} was applied with other content than this "
                "code's file; restore the released file"
            )
    return wanted[len(applied) :]


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '10s'")
            await connection.execute(migration.sql)
            await connection.execute(RECORD, migration.version, migration.name, migration.checksum)
    except CONNECTION_LOST as error:
        raise explain(error) from error
    except asyncpg.PostgresError as error:
        hint = f" ({error.hint})" if getattr(error, "hint", None) else ""
        raise MigrationError(
            f"migration {migration.version:04d}_{migration.name} failed and was rolled back: "
            f"{error}{hint}"
        ) from error


async def require_current(database: Database) -> None:
    """Raise MigrationError unless the database is exactly at this code's version."""
    async with database.connection() as connection:
        pending = pending_of(await _history(connection), load())
    if pending:
        raise MigrationError(f"the database lacks {len(pending)} migration(s); run: quire migrate")
