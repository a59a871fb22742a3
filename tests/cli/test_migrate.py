"""`quire migrate` on a real PostgreSQL: one named by a URL, and the embedded one."""

import json
from pathlib import Path

from ledger.storage.migrate import load
from server.embedded import DataDirLock
from tests.cli.commands import run
from tests.support.clusters import Database

ALL = [f"{migration.version:04d}_{migration.name}" for migration in load()]


def urls(database: Database) -> dict[str, str]:
    return {
        "QUIRE_DATABASE_URL": database.server_url,
        "QUIRE_DATABASE_OWNER_URL": database.owner_url,
    }


def test_migrations_run_once(empty_database: Database) -> None:
    settings = urls(empty_database)
    dry = run("migrate", "--dry-run", settings=settings)
    assert dry.stdout.decode().splitlines() == [f"would run {name}" for name in ALL]
    first = run("migrate", settings=settings)
    assert first.returncode == 0
    assert first.stdout.decode().splitlines() == [f"applied {name}" for name in ALL]
    again = run("migrate", settings=settings)
    assert (again.returncode, again.stdout) == (0, b"")
    assert b"nothing to migrate" in again.stderr


def test_migrate_as_json(database: Database) -> None:
    done = run("migrate", "--json", settings=urls(database))
    assert json.loads(done.stdout) == {"migrations": [], "dry_run": False}


def test_a_role_that_may_not_migrate_is_refused(empty_database: Database) -> None:
    settings = {"QUIRE_DATABASE_URL": empty_database.server_url}
    done = run("migrate", settings=settings)
    assert done.returncode == 2
    assert done.stderr.startswith(b"Error: ")
    assert b"Traceback" not in done.stderr


def test_a_database_that_cannot_be_reached_is_one_message() -> None:
    settings = {"QUIRE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    done = run("migrate", settings=settings)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_the_embedded_database_is_made_and_migrated(data_dir: Path) -> None:
    options = ("--data-dir", str(data_dir), "--json")
    dry = run("migrate", "--dry-run", *options)
    assert json.loads(dry.stdout) == {"migrations": ALL, "dry_run": True}
    assert not data_dir.exists()
    assert json.loads(run("migrate", *options).stdout)["migrations"] == ALL
    assert json.loads(run("migrate", "--dry-run", *options).stdout)["migrations"] == []
    assert not (data_dir / "postgres" / "data" / "postmaster.pid").exists()


def test_a_data_directory_that_is_served_is_refused(data_dir: Path) -> None:
    with DataDirLock(data_dir):
        done = run("migrate", "--data-dir", str(data_dir))
    assert done.returncode == 2
    assert b"is already served by process" in done.stderr
