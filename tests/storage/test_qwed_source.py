"""Reading QWED's database from a real SQLite file and a real PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ledger.qwed import QwedReport, QwedRow, TrailVerifier
from ledger.storage.qwed_source import PAGE_ROWS, QwedSourceError, open_source
from tests.qwed_writer import (
    COLUMNS,
    POSTGRES_TABLE,
    SECRET,
    insert,
    sqlite_values,
    trail,
    values,
    write_sqlite,
)
from tests.support.clusters import Database

TRICKY: dict[str, Any] = {
    "query": "é \u2028 \U0001f600 'quoted'",
    "result": {"b": 1e16, "a": [None, True, float("nan")], "é": "\x00\u20ac"},
}

Write = Callable[[list[QwedRow]], Coroutine[Any, Any, str]]


@pytest.fixture(params=["sqlite", "postgresql"])
async def write_database(request: pytest.FixtureRequest, tmp_path: Path) -> Write:
    """Write rows into a new QWED database of either kind; returns its DSN."""
    if request.param == "sqlite":

        async def to_sqlite(rows: list[QwedRow]) -> str:
            return write_sqlite(tmp_path / "qwed's #1 %41.db", rows)

        return to_sqlite
    database: Database = request.getfixturevalue("empty_database")

    async def to_postgres(rows: list[QwedRow]) -> str:
        await _write_postgres(database.owner_url, rows)
        return database.owner_url

    return to_postgres


async def _write_postgres(dsn: str, rows: list[QwedRow]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(POSTGRES_TABLE)
        marks = [f"${number}" for number in range(1, len(COLUMNS) + 1)]
        await connection.executemany(insert(*marks), [_postgres_values(row) for row in rows])
    finally:
        await connection.close()


def _postgres_values(row: QwedRow) -> list[Any]:
    stored = values(row)
    stored[COLUMNS.index("timestamp")] = datetime.fromisoformat(str(row.timestamp))
    return stored


async def _verified(dsn: str, organization_id: int = 1) -> QwedReport:
    verifier = TrailVerifier(organization_id, [SECRET])
    async with open_source(dsn) as source:
        async for row in source.rows(organization_id):
            verifier.check(row)
    return verifier.finish()


async def test_a_trail_reads_back_as_it_was_hashed(write_database: Write) -> None:
    rows = trail(2, form="legacy", **TRICKY)
    rows += trail(3, first_id=10, organization_id=2, user_id=None, raw_llm_output=None)
    dsn = await write_database(rows)
    async with open_source(dsn) as source:
        assert await source.organizations() == [1, 2]
        assert [row async for row in source.rows(1)] == rows[:2]
        assert [row async for row in source.rows(2)] == rows[2:]
        assert [row async for row in source.rows(3)] == []
    report = await _verified(dsn)
    assert (report.valid, report.forms) == (True, {"current": 0, "legacy": 2})
    assert (await _verified(dsn, 2)).forms == {"current": 3, "legacy": 0}


async def test_a_trail_longer_than_a_page_is_read_whole(write_database: Write) -> None:
    dsn = await write_database(trail(2 * PAGE_ROWS + 1))
    report = await _verified(dsn)
    assert (report.valid, report.total_entries) == (True, 2 * PAGE_ROWS + 1)


async def test_a_trail_of_whole_pages_ends_there(write_database: Write) -> None:
    assert (await _verified(await write_database(trail(PAGE_ROWS)))).total_entries == PAGE_ROWS


async def test_stored_columns_are_returned_unchanged(write_database: Write) -> None:
    row = trail(1)[0]
    dsn = await write_database([replace(row, result='{"value" :4}')])
    async with open_source(dsn) as source:
        columns = (await anext(source.rows(1))).columns
    assert list(columns) == list(COLUMNS)
    assert columns["result"] == '{"value" :4}'
    assert str(columns["timestamp"]).startswith("2026-05-08 00:00:01")


@pytest.mark.parametrize("column", ["query", "result", "domain", "previous_hash", "entry_hash"])
async def test_a_changed_column_is_found_in_its_row(write_database: Write, column: str) -> None:
    rows = trail(3)
    changed: Any = {column: '{"value": 5}'}
    rows[1] = replace(rows[1], **changed)
    report = await _verified(await write_database(rows))
    assert report.failed_entries == ([2, 3] if column == "entry_hash" else [2])


async def test_reading_never_writes(write_database: Write) -> None:
    dsn = await write_database(trail(1))
    async with open_source(dsn) as source:
        connection: Any = source._connection  # type: ignore[attr-defined]
        with pytest.raises((sqlite3.OperationalError, asyncpg.ReadOnlySQLTransactionError)):
            await _run(connection, "DELETE FROM verificationlog")


async def _run(connection: Any, statement: str) -> None:
    outcome = connection.execute(statement)
    if not isinstance(outcome, sqlite3.Cursor):
        await outcome


async def test_a_reader_that_stops_early_leaves_the_source_usable(write_database: Write) -> None:
    dsn = await write_database(trail(5))
    async with open_source(dsn) as source:
        rows: AsyncIterator[QwedRow] = source.rows(1)
        assert (await anext(rows)).id == 1
        await source.rows(1).aclose()
        await rows.aclose()  # type: ignore[attr-defined]
        assert await source.organizations() == [1]


async def test_sqlite_text_that_is_not_utf8_and_odd_types_are_broken_rows(tmp_path: Path) -> None:
    rows = trail(4)
    dsn = write_sqlite(tmp_path / "qwed.db", rows)
    with closing(sqlite3.connect(tmp_path / "qwed.db")) as connection, connection:
        connection.execute("UPDATE verificationlog SET query = CAST(x'ff00' AS TEXT) WHERE id = 1")
        connection.execute("UPDATE verificationlog SET is_verified = 2 WHERE id = 2")
        connection.execute("UPDATE verificationlog SET timestamp = 'soon' WHERE id = 3")
        connection.execute("UPDATE verificationlog SET result = x'00' WHERE id = 4")
    report = await _verified(dsn)
    assert report.failed_entries == [1, 2, 3, 4]
    async with open_source(dsn) as source:
        assert (await anext(source.rows(1))).query == b"\xff\x00"


async def test_a_live_sqlite_writer_is_not_kept_out(tmp_path: Path) -> None:
    path = tmp_path / "qwed.db"
    rows = trail(PAGE_ROWS + 2)
    dsn = write_sqlite(path, rows[:-1])
    read: list[int] = []
    async with open_source(dsn) as source:
        async for row in source.rows(1):
            if row.id == 1:
                with closing(sqlite3.connect(path, timeout=0)) as connection, connection:
                    connection.execute(insert("?"), sqlite_values(rows[-1]))
            read.append(row.id)
    assert read == [row.id for row in rows]


async def test_postgres_times_with_zone_are_the_same_instants(empty_database: Database) -> None:
    dsn = empty_database.owner_url
    await _write_postgres(dsn, trail(2))
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "ALTER TABLE verificationlog ALTER timestamp TYPE timestamptz "
            "USING timestamp AT TIME ZONE 'UTC'"
        )
        await connection.execute("ALTER TABLE verificationlog ADD extra jsonb DEFAULT '{\"a\": 1}'")
        await connection.execute("ALTER TABLE verificationlog ADD tags text[] DEFAULT '{x}'")
    finally:
        await connection.close()
    assert (await _verified(dsn)).valid
    async with open_source(dsn) as source:
        row = await anext(source.rows(1))
    assert (row.columns["extra"], row.columns["tags"]) == ('{"a": 1}', "['x']")
    assert row.columns["timestamp"] == "2026-05-08 00:00:01+00"


async def test_a_policy_that_hides_rows_is_an_error(empty_database: Database) -> None:
    await _write_postgres(empty_database.owner_url, trail(3))
    connection = await asyncpg.connect(empty_database.owner_url)
    try:
        for statement in (
            "GRANT USAGE ON SCHEMA public TO quire_server",
            "GRANT SELECT ON verificationlog TO quire_server",
            "ALTER TABLE verificationlog ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY few ON verificationlog FOR SELECT USING (id <> 2)",
        ):
            await connection.execute(statement)
    finally:
        await connection.close()
    async with open_source(empty_database.server_url) as source:
        with pytest.raises(QwedSourceError, match="row-level security"):
            await source.organizations()


async def test_sqlalchemy_driver_names_are_taken(tmp_path: Path, empty_database: Database) -> None:
    sqlite_dsn = write_sqlite(tmp_path / "qwed.db", trail(1))
    await _write_postgres(empty_database.owner_url, trail(1))
    for dsn in (
        sqlite_dsn.replace("sqlite:", "sqlite+aiosqlite:") + "?check_same_thread=false",
        empty_database.owner_url.replace("postgresql:", "postgresql+psycopg2:"),
        empty_database.owner_url.replace("postgresql:", "postgres:"),
    ):
        assert (await _verified(dsn)).valid


async def test_a_relative_sqlite_path_has_three_slashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sqlite(tmp_path / "qwed.db", trail(1))
    monkeypatch.chdir(tmp_path)
    assert (await _verified("sqlite:///./qwed.db")).valid


@pytest.mark.parametrize(
    ("dsn", "reason"),
    [
        ("mysql://root@db/qwed", "sqlite:///path or postgresql://"),
        ("qwed.db", "sqlite:///path or postgresql://"),
        ("sqlite:////nowhere/qwed.db", "does not exist"),
        ("postgresql://nobody@127.0.0.1:1/qwed", "can't be read"),
        ("postgresql://h:notaport/qwed", "can't be read"),
    ],
)
async def test_a_source_that_can_not_be_opened_is_explained(dsn: str, reason: str) -> None:
    with pytest.raises(QwedSourceError, match=reason):
        async with open_source(dsn):
            pass


async def test_other_databases_are_refused(tmp_path: Path, empty_database: Database) -> None:
    (tmp_path / "not.db").write_bytes(b"not a database " * 100)
    sqlite3.connect(tmp_path / "empty.db").execute("CREATE TABLE other (a)")
    for dsn in (
        f"sqlite:///{tmp_path}/not.db",
        f"sqlite:///{tmp_path}/empty.db",
        empty_database.owner_url,
    ):
        async with open_source(dsn) as source:
            with pytest.raises(QwedSourceError, match="can't be read"):
                await source.organizations()
            with pytest.raises(QwedSourceError, match="can't be read"):
                await anext(source.rows(1))
