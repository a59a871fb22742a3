"""``quire import qwed``: copy a QWED audit trail into an org, which continues it.

Every row becomes one ``qwed.imported`` entry (``ledger.qwed.event`` says which
fields it gets, and what erasing its user does), broken rows too: they are marked,
reported and never repaired.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from typing import Any, Final

import click

from ledger.client import AsyncLedgerClient
from ledger.qwed import QwedVerdict, TrailEnd
from ledger.storage.qwed_source import QwedSource, QwedSourceError, open_source
from server.cli.base.connection import PATIENT_ATTEMPTS, Connection, client_command
from server.cli.base.output import (
    TableColumn,
    json_option,
    print_json,
    print_message,
    print_table,
    terminal,
)
from server.cli.base.text import count
from server.cli.imports.reading import ImportOutcome
from server.cli.imports.trail import ImportedTrail, TrailImport

DEFAULT_SECRET_ENV: Final = "QWED_AUDIT_SECRET_KEY"  # noqa: S105 - the name of a variable
EXIT_CODES: Final = {"verified": 0, "refuted": 1, "incomplete": 3}
_FAULT_COLUMNS: Final = (
    TableColumn("Row", keep=True, justify="right"),
    TableColumn("Form", keep=True),
    TableColumn("Failed"),
    TableColumn("Reason"),
)


async def _organization(source: QwedSource, named: int | None) -> int:
    if named is not None:
        return named
    found = await source.organizations()
    if len(found) == 1:
        return found[0]
    if not found:
        raise QwedSourceError(
            "the QWED database holds no audit rows: it was wiped, or it is another database"
        )
    listed = ", ".join(map(str, found))
    raise QwedSourceError(
        f"several organizations have rows: choose one of {listed} with --source-org"
    )


def _secrets(
    _context: click.Context, _option: click.Parameter, names: tuple[str, ...]
) -> dict[bytes, str]:
    """Map each secret to the name of its variable."""
    for name in names:
        if not os.environ.get(name):
            raise click.UsageError(
                f"{name} must be set to the secret that signed the QWED trail; "
                "--secret-env names another variable"
            )
    return {os.environ[name].encode("utf-8", "surrogateescape"): name for name in names}


@click.command("qwed")
@click.option("--dsn", required=True, help="QWED's database: sqlite:///path or postgresql://…")
@click.option("--org", help="The Quire org to import into; by default that of the API key.")
@click.option(
    "--source-org",
    type=int,
    help="QWED's organization id, where its database has more than one.",
)
@click.option(
    "--secret-env",
    "secrets",
    metavar="NAME",
    multiple=True,
    default=[DEFAULT_SECRET_ENV],
    show_default=True,
    callback=_secrets,
    help="Variable with the secret that signed the trail. Repeat it for earlier secrets.",
)
@click.option(
    "--expect-count", type=click.IntRange(min=0), help="Rows that the trail is known to have had."
)
@click.option(
    "--expect-head",
    metavar="HASH",
    help="Hash of the last row that the trail is known to have had.",
)
@click.option("--dry-run", is_flag=True, help="Count what an import would do; write nothing.")
@json_option
@client_command
def import_qwed(  # noqa: PLR0913, PLR0917 - a command's parameters are its options
    connection: Connection,
    dsn: str,
    org: str,
    source_org: int | None,
    secrets: dict[bytes, str],
    expect_count: int | None,
    expect_head: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Copy QWED's audit trail into an org, each row with its hash, signature and verdict.

    Broken rows are listed, and imported as broken. Run it again to continue where it
    stopped, and to check broken rows again.

    \b
    Exit code 0: every row was checked and is valid. 1: a row is broken, changed
    or missing. 2: the import failed. 3: rows have no hash or signature.
    """

    async def run() -> ImportOutcome:
        client = AsyncLedgerClient(
            connection.url,
            connection.api_key,
            org,
            attempts=PATIENT_ATTEMPTS,
            insecure_http=connection.insecure_http,
        )
        async with client, open_source(dsn) as source:
            organization = await _organization(source, source_org)
            trail = ImportedTrail(organization, secrets, TrailEnd(expect_count, expect_head))
            with _SearchStatus() as progress:
                run = TrailImport(client, source, trail, progress)
                return await run.run(dry_run=dry_run)

    outcome = asyncio.run(run())
    if as_json:
        print_json(_document(org, outcome, dry_run))
    else:
        _print_findings(outcome)
        _say_summary(org, outcome, dry_run)
    raise click.exceptions.Exit(EXIT_CODES[outcome.report.verdict])


class _SearchStatus:
    """A status line on a terminal's standard error; silent elsewhere."""

    def __init__(self) -> None:
        self._status = terminal().status("Reading rows imported earlier")

    def __enter__(self) -> _SearchStatus:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def __call__(self, outcome: ImportOutcome) -> None:
        read = count(outcome.report.total_entries, "row")
        self._status.update(f"{read} verified, {outcome.imported:,} imported")


def _document(org: str, outcome: ImportOutcome, dry_run: bool) -> dict[str, Any]:
    return {
        "org": org,
        "verdict": outcome.report.verdict,
        "valid": outcome.report.valid,
        "dry_run": dry_run,
        "imported": outcome.imported,
        "already_imported": outcome.already_imported,
        "corrected": outcome.corrected,
        "would_import": outcome.would_import,
        "would_correct": outcome.would_correct,
        **asdict(outcome.report),
        "broken": [_broken_row(verdict) for verdict in outcome.broken],
    }


def _broken_row(verdict: QwedVerdict) -> dict[str, Any]:
    return {
        "row_id": verdict.row_id,
        "form": verdict.form,
        "checks": verdict.checks,
        "errors": verdict.errors,
    }


def _print_findings(outcome: ImportOutcome) -> None:
    if outcome.broken:
        print_table(_FAULT_COLUMNS, map(_fault_cells, outcome.broken))
    for fault in outcome.report.trail_errors:
        click.echo(fault)
    for warning in outcome.report.warnings:
        print_message(f"Warning: {warning}")


def _fault_cells(verdict: QwedVerdict) -> tuple[str, str, str, str]:
    failed = [name.removesuffix("_valid") for name, valid in verdict.checks.items() if not valid]
    return (
        str(verdict.row_id),
        verdict.form or "-",
        ", ".join(failed),
        "\n".join(verdict.errors),
    )


def _say_summary(org: str, outcome: ImportOutcome, dry_run: bool) -> None:
    report = outcome.report
    forms = ", ".join(f"{rows:,} {form}" for form, rows in report.forms.items())
    print_message(
        f"Organization {report.organization_id}: {report.verdict}. "
        f"{count(report.total_entries, 'row')}, {report.verified_entries:,} valid, "
        f"{report.failed_count:,} broken, {report.unsigned_count:,} unsigned (forms: {forms})."
    )
    if dry_run:
        print_message(
            f"Org {org}: {outcome.would_import:,} would be imported, "
            f"{outcome.would_correct:,} corrected; {outcome.already_imported:,} were imported "
            "earlier. Nothing was written."
        )
    else:
        print_message(
            f"Org {org}: {outcome.imported:,} imported, {outcome.corrected:,} corrected, "
            f"{outcome.already_imported:,} imported earlier."
        )
    if report.unsigned_count:
        print_message(
            "Unsigned rows were written before QWED's chain began: "
            "they have no hash and no signature, so they can't be checked."
        )
    if report.complete == "not_checked":
        print_message(
            "It was not checked whether rows are missing at the end: "
            "use --expect-count or --expect-head."
        )
