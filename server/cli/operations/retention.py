"""`quire retention`: drops archived months from the database, on this machine."""

import asyncio
from pathlib import Path

import click
import msgspec

from ledger.archive.retention.locks import unprotected
from ledger.archive.retention.run import DroppedMonth
from ledger.storage import dropped_months
from ledger.storage.database import Database
from ledger.storage.dropped_months import DroppedMonthSummary, set_keep_months
from ledger.storage.entries import months
from ledger.storage.entries.months import Month
from server.cli.base import output
from server.cli.base.server_settings import read_settings
from server.cli.base.text import count, moment
from server.process.database.own_database import own_database
from server.process.database.required_logins import retention_login
from server.process.retention import retention_task
from server.settings import Settings
from server.trails.archive_targets import named_target, policy_of

_data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory of the server (QUIRE_DATA_DIR, .quire).",
)


class RetentionStatus(msgspec.Struct):
    """The document that --json prints; ``keep_months`` is null where retention is off.

    ``kept_by`` says why the archive allows no month to be dropped, null where it allows that.
    """

    keep_months: int | None
    kept_by: str | None
    months: list[Month]
    gone: list[DroppedMonthSummary]


@click.group()
def retention() -> None:
    """Drop months from the database once they are archived.

    QUIRE_RETENTION_MONTHS says how many months are kept; without it none is dropped. A running
    server drops due months every hour. Only the login of QUIRE_DATABASE_RETENTION_URL can drop them.
    """


@retention.command()
@_data_dir
@output.json_option
def status(data_dir: Path | None, as_json: bool) -> None:
    """Show which months are in the database, and which were dropped."""
    settings = read_settings({"data_dir": data_dir})
    with own_database(settings) as urls:
        found = asyncio.run(_status(urls.server, _blocked_by(settings)))
    if as_json:
        output.print_json(found)
        return
    keep = found.keep_months
    retained = (
        "off: no month is dropped"
        if keep is None
        else f"months are dropped {count(keep, 'month')} after their end"
    )
    output.print_fields(
        [("Retention", retained), *([("Blocked", found.kept_by)] if found.kept_by else [])]
    )
    columns = [
        output.TableColumn("Month", keep=True),
        output.TableColumn("Where"),
        output.TableColumn("Entries"),
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
        (f"{month.month:%Y-%m}", "database, due to be dropped" if month.due else "database", "")
        for month in found.months
    ]
    output.print_table(columns, rows)


@retention.command()
@_data_dir
@output.json_option
def run(data_dir: Path | None, as_json: bool) -> None:
    """Drop the months that are due.

    Each month is compared with the archive, row by row, and recorded in the trail "system" before
    it is dropped. Nothing is dropped if anything differs.
    """
    settings = read_settings({"data_dir": data_dir})
    if settings.retention_months is None:
        raise click.UsageError(
            "Retention is off: set QUIRE_RETENTION_MONTHS to the number of months to keep."
        )
    with own_database(settings) as urls:
        login = retention_login(settings, urls)
        assert login is not None, "a policy is set, and the start without a login is refused"
        asyncio.run(set_keep_months(urls.owner, settings.retention_months))
        dropped = asyncio.run(_run(settings, urls.server, login, as_json))
    if not dropped and not as_json:
        output.print_message("No month is due to be dropped.")


def _blocked_by(settings: Settings) -> str | None:
    """Return why the configured archive allows no month to be dropped; None where it does."""
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
            await months.present(database),
            await dropped_months.gone(database),
        )
    finally:
        await database.close()


async def _run(
    settings: Settings, url: str, retention_url: str, as_json: bool
) -> list[DroppedMonth]:
    def report(dropped: DroppedMonth) -> None:
        if as_json:
            output.print_json(dropped._asdict())
        else:
            entries = count(dropped.entries, "entry", "entries")
            click.echo(
                f"{dropped.month:%Y-%m} dropped: {entries} of {count(dropped.orgs, 'org')}, "
                f"recorded in entry {dropped.record_seq} of the trail system."
            )

    async with retention_task(settings, url, retention_url) as task:
        await task.seal()
        return await task.run(report)
