"""The migration runner applies whole files once, in order, and refuses an unknown schema."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ledger.errors import DatabaseUnavailable, MigrationError
from ledger.storage.database import Database as Pool
from ledger.storage.migrate import load, migrate, migrations_folder, require_current
from tests.support.clusters import Database


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """A folder of three small migrations."""
    for number, name in enumerate(("one", "two", "three"), 1):
        (tmp_path / f"{number:04d}_{name}.sql").write_text(f"CREATE TABLE {name} (x int);")
    return tmp_path


async def value(database: Database, query: str) -> Any:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(database.owner_url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def tables(database: Database) -> list[str]:
    query = "SELECT array_agg(tablename::text ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'"
    return await value(database, query) or []


async def test_each_runs_once_and_in_order(empty_database: Database, migrations: Path) -> None:
    names = ["0001_one", "0002_two", "0003_three"]
    assert await migrate(empty_database.owner_url, folder=migrations, dry_run=True) == names
    assert await tables(empty_database) == []
    assert await migrate(empty_database.owner_url, folder=migrations) == names
    assert await migrate(empty_database.owner_url, folder=migrations) == []
    (migrations / "0004_four.sql").write_text("CREATE TABLE four (x int);")
    assert await migrate(empty_database.owner_url, folder=migrations, dry_run=True) == ["0004_four"]
    assert await migrate(empty_database.owner_url, folder=migrations) == ["0004_four"]


async def test_many_at_once_migrate_once(empty_database: Database) -> None:
    ran = await asyncio.gather(*(migrate(empty_database.owner_url) for _ in range(6)))
    names = [f"{each.version:04d}_{each.name}" for each in load()]
    assert sorted(ran) == [[]] * 5 + [names]
    pool = await Pool.open(empty_database.server_url, size=1)
    try:
        await require_current(pool)
    finally:
        await pool.close()


async def test_a_file_changed_since_it_ran_is_refused(
    empty_database: Database, migrations: Path
) -> None:
    await migrate(empty_database.owner_url, folder=migrations)
    with (migrations / "0002_two.sql").open("a") as file:
        file.write("-- edited")
    (migrations / "0004_four.sql").write_text("CREATE TABLE four (x int);")
    for dry_run in (True, False):
        with pytest.raises(MigrationError, match=r"0002_two was applied with other content"):
            await migrate(empty_database.owner_url, folder=migrations, dry_run=dry_run)
    assert "four" not in await tables(empty_database)


async def test_a_database_newer_than_the_code_is_refused(
    empty_database: Database, migrations: Path
) -> None:
    await migrate(empty_database.owner_url, folder=migrations)
    (migrations / "0003_three.sql").unlink()
    with pytest.raises(MigrationError, match=r"version 3, newer than this code's 2; upgrade quire"):
        await migrate(empty_database.owner_url, folder=migrations)


async def test_a_server_refuses_a_schema_that_is_not_its_own(database: Database) -> None:
    pool = await Pool.open(database.server_url, size=1)
    try:
        await require_current(pool)
        newest = max(each.version for each in load())
        await value(database, f"DELETE FROM schema_migrations WHERE version = {newest}")
        with pytest.raises(MigrationError, match=r"lacks 1 migration\(s\); run: quire migrate"):
            await require_current(pool)
        extra = f"SELECT {newest - 1} + n, 'x', 'x' FROM generate_series(1, 2) n"
        await value(database, f"INSERT INTO schema_migrations (version, name, checksum) {extra}")
        with pytest.raises(MigrationError, match="newer than this code"):
            await require_current(pool)
    finally:
        await pool.close()


async def test_a_failing_file_leaves_nothing_of_itself(
    empty_database: Database, migrations: Path
) -> None:
    failing = migrations / "0002_two.sql"
    failing.write_text("CREATE TABLE two (x int); SELECT 1/0; CREATE TABLE never (x int);")
    with pytest.raises(MigrationError, match=r"0002_two failed and was rolled back: division"):
        await migrate(empty_database.owner_url, folder=migrations)
    assert await tables(empty_database) == ["one", "schema_migrations"]
    failing.write_text("CREATE TABLE two (x int);")
    assert await migrate(empty_database.owner_url, folder=migrations) == ["0002_two", "0003_three"]


async def test_a_lost_connection_is_no_crash(empty_database: Database, migrations: Path) -> None:
    (migrations / "0002_two.sql").write_text("SELECT pg_terminate_backend(pg_backend_pid());")
    with pytest.raises(DatabaseUnavailable):
        await migrate(empty_database.owner_url, folder=migrations)
    assert await tables(empty_database) == ["one", "schema_migrations"]


@pytest.mark.parametrize("name", ["0005_five.sql", "0003_again.sql", "0004-dash.sql", "four.sql"])
def test_numbers_have_no_gaps_and_names_their_form(migrations: Path, name: str) -> None:
    (migrations / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError, match=r"gaps|must be named"):
        load(migrations)


def test_the_folder_of_this_checkout_is_found() -> None:
    assert (migrations_folder() / "0001_ledger.sql").is_file()
