"""Read-only access to QWED's own database: SQLite by the standard library, PostgreSQL by asyncpg.

Rows are read one organization at a time, in the order of their ids and in pages.
Columns keep their stored form: times and JSON as the database's text, text that is
not UTF-8 as bytes. Nothing is ever written.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
)
from pathlib import Path
from typing import Any, Final, Protocol

import asyncpg

from ledger.errors import StorageError
from ledger.qwed import Column, QwedRow
from ledger.storage.connecting import naming_files
from ledger.storage.session import statements, timeouts

PAGE_ROWS: Final = 1_000
MAX_ORGANIZATIONS_LISTED: Final = 1_000
BUSY_TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 10.0

# For SQLite $1 is a parameter with the name "1"; see _fetch.
_ORGANIZATIONS: Final = (
    "SELECT DISTINCT organization_id FROM verificationlog ORDER BY organization_id LIMIT $1"
)
_NEWEST: Final = "SELECT max(id) AS id FROM verificationlog WHERE organization_id = $1"
# Pages by key: the writer of a live file waits no longer than one page takes.
_SQLITE_PAGE: Final = (
    "SELECT * FROM verificationlog WHERE organization_id = $1 AND id > $2 ORDER BY id LIMIT $3"
)
# One cursor in one snapshot: the trail at one moment, sorted once.
_POSTGRES_ROWS: Final = "SELECT * FROM verificationlog WHERE organization_id = $1 ORDER BY id"
_POSTGRES_TEXT_TYPES: Final = ("timestamp", "timestamptz", "json", "jsonb", "numeric", "uuid")
_BEFORE_ANY_ID: Final = -(2**63)

_SQLITE: Final = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)(?:\?.*)?")
_POSTGRES: Final = re.compile(r"postgres(?:ql)?(?:\+\w+)?://(?P<rest>.+)", re.DOTALL)


class QwedSourceError(StorageError):
    """A QWED database that can't be read; the message says what to check."""


class QwedSource(Protocol):
    """An open QWED database. Reading raises QwedSourceError."""

    async def organizations(self) -> list[int]:
        """Return the organizations with rows, at most MAX_ORGANIZATIONS_LISTED."""
        ...

    async def newest(self, organization_id: int) -> int | None:
        """Return the highest row id of an organization, None if it has no rows."""
        ...

    def rows(self, organization_id: int) -> AsyncGenerator[QwedRow, None]:
        """Yield an organization's rows in the order of their ids. Also raises MalformedQwedRow."""
        ...


def open_source(dsn: str) -> AbstractAsyncContextManager[QwedSource]:
    """Open ``sqlite:///path`` (a fourth slash makes it absolute) or ``postgresql://…``.

    The DSN may be QWED's own: SQLAlchemy's driver names (``postgresql+psycopg2``)
    are accepted and ignored. Raises QwedSourceError.
    """
    if match := _SQLITE.fullmatch(dsn):
        return _open_sqlite(Path(match["path"]))
    if match := _POSTGRES.fullmatch(dsn):
        return _open_postgres(f"postgresql://{match['rest']}")
    raise QwedSourceError(
        "the QWED database must be given as sqlite:///path or postgresql://user@host/database"
    )


@contextmanager
def _readable() -> Iterator[None]:
    """Turn the errors of the two drivers into QwedSourceError."""
    try:
        yield
    except (sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        reason = str(error) or "the connection failed without a reason"
        raise QwedSourceError(f"the QWED database can't be read: {reason}") from error


@asynccontextmanager
async def _open_sqlite(path: Path) -> AsyncIterator[QwedSource]:
    with _readable():
        connection = await asyncio.to_thread(_connect_sqlite, path)
    try:
        yield _SqliteSource(connection)
    finally:
        connection.close()


def _connect_sqlite(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise QwedSourceError(f"the SQLite file {path} does not exist")
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        check_same_thread=False,  # pages run on pool threads, one after the other
    )
    connection.text_factory = _text_or_bytes
    connection.row_factory = sqlite3.Row
    return connection


def _text_or_bytes(stored: bytes) -> str | bytes:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored


class _SqliteSource:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def organizations(self) -> list[int]:
        with _readable():
            found = await asyncio.to_thread(self._fetch, _ORGANIZATIONS, MAX_ORGANIZATIONS_LISTED)
        return _integers(found)

    async def newest(self, organization_id: int) -> int | None:
        with _readable():
            found = await asyncio.to_thread(self._fetch, _NEWEST, organization_id)
        return _row_id(found[0]["id"])

    async def rows(self, organization_id: int) -> AsyncGenerator[QwedRow, None]:
        after = _BEFORE_ANY_ID
        while True:
            with _readable():
                page = await asyncio.to_thread(
                    self._fetch, _SQLITE_PAGE, organization_id, after, PAGE_ROWS
                )
            for columns in page:
                row = QwedRow.from_columns(dict(columns))
                after = row.id
                yield row
            if len(page) < PAGE_ROWS:
                return

    def _fetch(self, query: str, *arguments: int) -> list[sqlite3.Row]:
        # Named: Python 3.12 warns if named or numbered parameters are given as a sequence.
        named = {str(number): value for number, value in enumerate(arguments, 1)}
        return self._connection.execute(query, named).fetchall()


@asynccontextmanager
async def _open_postgres(dsn: str) -> AsyncIterator[QwedSource]:
    with _readable(), _well_formed_dsn(), naming_files(dsn):
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT_S,
            server_settings={
                "application_name": "quire import qwed",
                "datestyle": "ISO",
                "default_transaction_read_only": "on",
                "row_security": "off",  # a hidden row would look like a removed one
                "timezone": "UTC",
            },
        )
    try:
        with _readable():
            await connection.execute(statements(timeouts(connection)))
            for type_name in _POSTGRES_TEXT_TYPES:
                await connection.set_type_codec(
                    type_name, schema="pg_catalog", encoder=str, decoder=str, format="text"
                )
        yield _PostgresSource(connection)
    finally:
        await connection.close()


@contextmanager
def _well_formed_dsn() -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # raised by asyncpg, and by its address parser
        raise QwedSourceError(f"the QWED database's address can't be read: {error}") from None


class _PostgresSource:
    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection

    async def organizations(self) -> list[int]:
        with _readable():
            found = await self._connection.fetch(_ORGANIZATIONS, MAX_ORGANIZATIONS_LISTED)
        return _integers(found)

    async def newest(self, organization_id: int) -> int | None:
        with _readable():
            return _row_id(await self._connection.fetchval(_NEWEST, organization_id))

    async def rows(self, organization_id: int) -> AsyncGenerator[QwedRow, None]:
        with _readable():
            async with self._connection.transaction(isolation="repeatable_read", readonly=True):
                cursor = self._connection.cursor(
                    _POSTGRES_ROWS, organization_id, prefetch=PAGE_ROWS
                )
                async for record in cursor:
                    yield QwedRow.from_columns(
                        {name: _plain(value) for name, value in record.items()}
                    )


def _plain(value: object) -> Column:
    """Return the value, or the text of a value of another type than QWED's columns have."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    return str(value)


def _integers(found: list[Any]) -> list[int]:
    return [row["organization_id"] for row in found if type(row["organization_id"]) is int]


def _row_id(found: object) -> int | None:
    return found if type(found) is int else None
