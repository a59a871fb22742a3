"""`quire migrate`."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from ledger.storage.migrate import load
from ledger.storage.migrate import migrate as run_migrations
from ledger.storage.provision import provision
from server.cli.base import output
from server.cli.base.server_settings import read_settings
from server.cli.base.text import count
from server.embedded import OWNER_ROLE, SUPERUSER, DataDirLock, EmbeddedPostgres
from server.keys.own_keys import require_own_keys_in
from server.settings import Settings


@click.command()
@click.option("--dry-run", is_flag=True, help="Only list the migrations that would run.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Directory of the embedded PostgreSQL (QUIRE_DATA_DIR, .quire).",
)
@output.json_option
def migrate(dry_run: bool, data_dir: Path | None, as_json: bool) -> None:
    """Migrate the database to this version's schema.

    The database is that of QUIRE_DATABASE_OWNER_URL (or QUIRE_DATABASE_URL), else the embedded
    one of the data directory, whose server must be stopped.
    """
    names = _migrate(read_settings({"data_dir": data_dir}), dry_run)
    if as_json:
        output.print_json({"migrations": names, "dry_run": dry_run})
        return
    for name in names:
        click.echo(f"{'would run' if dry_run else 'applied'} {name}")
    if not names:
        output.print_message("The database has this version's schema already: nothing to migrate.")
    elif not dry_run:
        output.print_message(f"{count(len(names), 'migration')} applied.")


def _migrate(settings: Settings, dry_run: bool) -> list[str]:
    if dry_run and settings.embedded and not (settings.data_dir / "postgres").exists():
        return [f"{migration.version:04d}_{migration.name}" for migration in load()]
    with _owner_url(settings, provide=not dry_run) as url:
        work = run_migrations(
            url,
            dry_run=dry_run,
            setting=settings.owner_url_setting,
            check=partial(require_own_keys_in, settings=settings),
        )
        return asyncio.run(work)


@contextmanager
def _owner_url(settings: Settings, *, provide: bool) -> Iterator[str]:
    """Yield the URL of the owner's role; the embedded PostgreSQL, if used, runs until the end."""
    url = settings.database_owner_url or settings.database_url
    if url is not None:
        yield url
        return
    with DataDirLock(settings.data_dir):
        postgres = EmbeddedPostgres(settings.data_dir)
        postgres.start()
        try:
            if provide:
                asyncio.run(provision(postgres.url(SUPERUSER)))
            yield postgres.url(OWNER_ROLE)
        finally:
            postgres.stop()
