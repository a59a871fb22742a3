"""`quire search`: checks and rebuilds the search index, on this machine."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import click

from ledger.core.indexing.rebuilding import RebuiltIndex
from ledger.core.indexing.rebuilding import rebuild as rebuild_index
from ledger.sealing import index_key
from ledger.storage import orgs as org_table
from ledger.storage.database import Database
from server.cli.base import output
from server.cli.base.root import CommandFailure
from server.cli.base.server_settings import read_settings
from server.cli.base.text import count
from server.keys.first_start import load_master_key
from server.process.database.own_database import DatabaseUrls, own_database

_ORGS_AT_ONCE = 1_000


@click.group()
def search() -> None:
    """Check and rebuild the index by which entries of an actor or subject are found.

    A search finds all entries without it, slower.
    """


@search.command()
@click.argument("orgs", nargs=-1)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory of the server (QUIRE_DATA_DIR, .quire).",
)
@output.json_option
def rebuild(orgs: tuple[str, ...], data_dir: Path | None, as_json: bool) -> None:
    """Compare the search index with the entries, add missing rows, remove wrong ones.

    Of all orgs, or of those named. Appends and searches go on meanwhile. Only the owner of the
    database can remove rows; wrong rows hide no entry.
    """
    settings = read_settings({"data_dir": data_dir})
    with own_database(settings) as urls:
        asyncio.run(_rebuild(urls, index_key(load_master_key(settings)), orgs, as_json))


async def _rebuild(urls: DatabaseUrls, key: bytes, named: Sequence[str], as_json: bool) -> None:
    database = await Database.open(urls.server, size=1)
    try:
        async for org_id, slug in _orgs(database, named):
            _print(slug, await rebuild_index(urls.server, urls.owner, org_id, key), as_json)
    finally:
        await database.close()


async def _orgs(database: Database, named: Sequence[str]) -> AsyncIterator[tuple[int, str]]:
    """Yield id and slug of the named orgs, or of all. Raises CommandFailure for an unknown one."""
    for slug in dict.fromkeys(named):
        found = await org_table.org_by_slug(database, slug)
        if found is None:
            raise CommandFailure(f"There is no org {slug}.")
        yield found.id, found.slug
    after = "" if not named else None
    while after is not None:
        page = await org_table.list_orgs(database, after, _ORGS_AT_ONCE)
        for org in page:
            yield org.id, org.slug
        after = page[-1].slug if len(page) == _ORGS_AT_ONCE else None


def _print(slug: str, rebuilt: RebuiltIndex, as_json: bool) -> None:
    if as_json:
        output.print_json({"org": slug, **rebuilt._asdict()})
        return
    click.echo(
        f"{slug}: {count(rebuilt.right, 'row')} right, {rebuilt.added:,} added, "
        f"{rebuilt.removed:,} removed."
    )
    if rebuilt.kept:
        output.print_message(
            f"{count(rebuilt.kept, 'wrong row')} of {slug} can only be removed by the owner of the "
            "database: give the owner's URL as QUIRE_DATABASE_OWNER_URL."
        )
