"""The migration runner: numbered plain-SQL files, forward only, checksummed.

Each file runs in its own transaction under one advisory lock, so servers that
start together migrate once. A crash leaves each file applied either whole or not
at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from ledger.errors import DatabaseUnfit, MigrationError
from ledger.storage.database import (
    CONNECTION_LOST,
    Connection,
    Database,
    connect_as_owner,
    explain,
    explained,
)
from ledger.storage.entries.rights import UNLOGGED
from ledger.storage.lock_waits import log_lock_waits
from ledger.storage.pooler import require_sessions
from ledger.storage.queries import Queries

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
    """Return the folder of the files: next to the packages in a checkout, inside if installed."""
    package = Path(__file__).parents[1]
    for folder in (package / "_migrations", package.parent / "migrations"):
        if folder.is_dir():
            return folder
    raise MigrationError("the migration files are missing from this installation; reinstall quire")


def load(folder: Path | None = None) -> list[Migration]:
    """Load all migrations, oldest first. Raises MigrationError unless numbered 1, 2, 3, …"""
    migrations = []
    for path in sorted((folder or migrations_folder()).glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name}: a migration must be named 0001_what_it_does.sql")
        text = path.read_bytes()
        checksum = sha256(text).hexdigest()
        migrations.append(Migration(int(match[1]), match[2], text.decode(), checksum))
    if [migration.version for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise MigrationError("migrations must be numbered 0001, 0002, … without gaps")
    return migrations


async def migrate(
    owner_url: str,
    *,
    dry_run: bool = False,
    folder: Path | None = None,
    setting: str = "QUIRE_DATABASE_OWNER_URL",
    check: Callable[[Queries], Awaitable[None]] | None = None,
) -> list[str]:
    """Bring the schema to this code's version; return the names of the applied migrations.

    With ``dry_run`` nothing is applied. ``setting`` is the setting that has the URL. ``check`` is
    called before anything is written, and may raise to refuse the database. Raises MigrationError
    if the database is newer than the code, an applied file was changed since, or PostgreSQL is
    older than 15; DatabaseUnfit if the database, or a pooler before it, breaks Quire's guarantees.
    """
    migrations = load(folder)
    await require_sessions(owner_url, setting)
    name = f"quire migrate {os.getpid()}"
    connection = await connect_as_owner(owner_url, name=name)
    try:
        _require_version(connection)
        async with log_lock_waits(owner_url, name):
            if check is not None:
                async with explained():
                    await check(connection)
            names = await _migrate(connection, migrations, dry_run)
            await _require_logged(connection)
            return names
    finally:
        await _release(connection)


async def _release(connection: Connection) -> None:
    """Unlock before closing: a pooler may keep the session of a connection that only closes."""
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


async def _migrate(connection: Connection, migrations: list[Migration], dry_run: bool) -> list[str]:
    async with explained():
        await connection.execute("SET statement_timeout = '10min'")
        await connection.execute("SELECT pg_advisory_lock($1)", _ADVISORY_LOCK)
        pending = pending_of(await _history(connection), migrations)
        if pending and not dry_run:
            await connection.execute(CREATE_HISTORY)
    for migration in pending:
        if not dry_run:
            await _apply(connection, migration)
    if not dry_run and pending:
        async with explained():
            await connection.execute("GRANT SELECT ON schema_migrations TO quire_server")
    return [f"{migration.version:04d}_{migration.name}" for migration in pending]


async def _require_logged(connection: Connection) -> None:
    """Raise DatabaseUnfit for a table that PostgreSQL empties after a crash."""
    async with explained():
        tables = [row[0] for row in await connection.fetch(UNLOGGED)]
    if tables:
        raise DatabaseUnfit(
            f"a crash of PostgreSQL would empty tables of this database, which are UNLOGGED: "
            f"{', '.join(tables)}. Run for each, as its owner: ALTER TABLE … SET LOGGED"
        )


async def _history(connection: Connection) -> list[tuple[int, str, str]]:
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return []
    return [tuple(row) for row in await connection.fetch(READ_HISTORY)]


def pending_of(applied: list[tuple[int, str, str]], migrations: list[Migration]) -> list[Migration]:
    """Return the pending migrations, after checking that the applied ones match this code's."""
    if len(applied) > len(migrations):
        raise MigrationError(
            f"the database is at schema version {applied[-1][0]}, newer than this code's "
            f"{len(migrations)}; upgrade quire on this machine"
        )
    for (version, name, checksum), migration in zip(applied, migrations, strict=False):
        if (version, checksum) != (migration.version, migration.checksum):
            raise MigrationError(
                f"migration {version:04d}_{name} was applied with other content than the file of "
                "this version of quire; restore the released file"
            )
    return migrations[len(applied) :]


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '10s'")
            # A crash before the end of this transaction rolls the whole file back.
            await connection.execute(migration.sql)
            await connection.execute(RECORD, migration.version, migration.name, migration.checksum)
    except CONNECTION_LOST as error:
        raise explain(error) from error
    except asyncpg.PostgresError as error:
        reason = " ".join(str(error).split("\n"))  # PostgreSQL's hint is on a line of its own
        raise MigrationError(
            f"migration {migration.version:04d}_{migration.name} failed and was rolled back: "
            f"{reason}"
        ) from error


async def require_current(database: Database) -> None:
    """Raise MigrationError unless the database is exactly at this code's version."""
    async with database.connection() as connection:
        pending = pending_of(await _history(connection), load())
    if pending:
        raise MigrationError(f"the database lacks {len(pending)} migration(s); run: quire migrate")
