"""`quire retention`: months that leave the database for the archive, on this machine."""

import asyncio
from dataclasses import replace
from pathlib import Path

import click
import msgspec

from ledger.archive.retention.locks import unprotected
from ledger.archive.retention.run import DroppedMonth
from ledger.storage import dropped_months
from ledger.storage.database import Database
from ledger.storage.dropped_months import DroppedMonthSummary, Month, set_keep_months
from server.cli.base import output
from server.cli.base.server_settings import read_settings
from server.cli.base.text import count, moment
from server.keys.first_start import load_secrets
from server.process.own_database import own_database
from server.settings import Settings
from server.trails.archive_targets import named_target, policy_of
from server.trails.services import Services

_data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory of the server (QUIRE_DATA_DIR, .quire).",
)


class RetentionStatus(msgspec.Struct):
    """What --json prints; ``keep_months`` null: all months stay.

    ``kept_by`` says what lets no month go whatever the policy says, null where nothing does.
    """

    keep_months: int | None
    kept_by: str | None
    months: list[Month]
    gone: list[DroppedMonthSummary]


@click.group()
def retention() -> None:
    """Months that leave the database once they are archived.

    QUIRE_RETENTION_MONTHS says how long they stay; without it they stay for ever. A running
    server looks every hour.
    """


@retention.command()
@_data_dir
@output.json_option
def status(data_dir: Path | None, as_json: bool) -> None:
    """Show which months are in the database, and which have left it."""
    settings = read_settings({"data_dir": data_dir})
    with own_database(settings) as urls:
        found = asyncio.run(_status(urls.server, _kept_by(settings)))
    if as_json:
        output.print_json(found)
        return
    keep = found.keep_months
    stay = "for ever" if keep is None else f"{count(keep, 'month')} after their end"
    output.print_fields(
        [("Months stay", stay), *([("None may go", found.kept_by)] if found.kept_by else [])]
    )
    columns = [
        output.TableColumn("MONTH", keep=True),
        output.TableColumn("WHERE"),
        output.TableColumn("ENTRIES"),
    ]
    rows = [
        (
            f"{gone.month:%Y-%m}",
            f"{gone.target}, since {moment(gone.departed_at)}",
            f"{gone.entries:,}",
        )
        for gone in found.gone
    ]
    rows += [
        (f"{month.month:%Y-%m}", "database, may leave" if month.due else "database", "")
        for month in found.months
    ]
    output.print_table(columns, rows)


@retention.command()
@_data_dir
@output.json_option
def run(data_dir: Path | None, as_json: bool) -> None:
    """Let go of the months whose time is over.

    Each is held against the archive, row by row, and recorded in the trail "system" before it
    is dropped. Nothing is dropped where anything differs.
    """
    settings = read_settings({"data_dir": data_dir})
    if settings.retention_months is None:
        raise click.UsageError("All months stay: set QUIRE_RETENTION_MONTHS to let some go.")
    with own_database(settings) as urls:
        asyncio.run(set_keep_months(urls.owner, settings.retention_months))
        left = asyncio.run(_run(settings, urls.server, as_json))
    if not left and not as_json:
        output.say("No month is to leave now.")


def _kept_by(settings: Settings) -> str | None:
    """Why the archive as it is set up takes no month."""
    url = settings.archive_target
    if url is None:
        return "nothing is archived here: set QUIRE_ARCHIVE_URL"
    locked = named_target(settings, url).locked
    return unprotected(locked, policy_of(settings), settings.retention_unlocked)


async def _status(url: str, kept_by: str | None) -> RetentionStatus:
    database = await Database.open(url, size=1)
    try:
        return RetentionStatus(
            await dropped_months.keep_months(database),
            kept_by,
            await dropped_months.months(database),
            await dropped_months.gone(database),
        )
    finally:
        await database.close()


async def _run(settings: Settings, url: str, as_json: bool) -> list[DroppedMonth]:
    def tell(left: DroppedMonth) -> None:
        if as_json:
            output.print_json(left._asdict())
        else:
            entries = count(left.entries, "entry", "entries")
            click.echo(
                f"{left.month:%Y-%m} left: {entries} of {count(left.orgs, 'org')}, recorded in "
                f"entry {left.record_seq} of the trail system."
            )

    secrets = load_secrets(settings, database_is_new=False)
    services = await Services.open(
        replace(settings, retention_months=None),
        secrets,
        url,
        lambda _: secrets.keyring,
    )
    try:
        return await services.retaining.run(tell)
    finally:
        await services.close()
