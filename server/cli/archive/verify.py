"""`quire archive verify`: reads the archive, and the database where it can be reached."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import click
import msgspec
from rich.progress import Progress, TextColumn
from rich.text import Text

from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.targets import Target
from ledger.archive.verification.anchoring import TrustedAttestors
from ledger.archive.verification.findings import CHECKS, ArchiveVerdict
from ledger.archive.verification.run import ArchiveVerificationOptions, LiveTrail, verify_archive
from ledger.errors import KeyHistoryError
from ledger.keys import SigningKeyring
from ledger.log_keys import KeyPins, parse_trust
from ledger.policy import Policy
from ledger.sealing import row_key
from ledger.storage import orgs
from ledger.storage.database import Database
from ledger.verdict import NOT_CHECKED, Check, Verdict, combine
from server.cli.base import output, verdicts
from server.cli.base.root import CommandFailure
from server.cli.base.server_settings import read_settings
from server.cli.base.text import count
from server.embedded import SERVER_ROLE, EmbeddedPostgres
from server.keys.attestors import timestamp_trust, witness_policy
from server.keys.first_start import load_secrets, present_master_key
from server.keys.log_trust import own_pins
from server.keys.own_keys import require_own_keys_in
from server.refusal import StartupRefused
from server.settings import Settings
from server.trails.archive_targets import named_target, target_settings

_TRUST_BYTES_MAX = 1 << 20


class ArchiveReport(msgspec.Struct):
    """The document that --json prints: the verdicts on the trail and on the anchor log."""

    verdict: Verdict
    valid: bool
    seconds: float
    trail: ArchiveVerdict
    anchors: ArchiveVerdict


@click.command()
@click.argument("org")
@click.option("--archive", "url", help="The archive's URL; QUIRE_ARCHIVE_URL if left out.")
@click.option(
    "--trust",
    type=click.File("rb"),
    help="Pins of the log's keys, or their history (`quire keys log show --pins`).",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory of the server (QUIRE_DATA_DIR, .quire).",
)
@click.option("--offline", is_flag=True, help="Verify the archive alone, without the database.")
@output.json_option
def verify(
    org: str,
    url: str | None,
    trust: BinaryIO | None,
    data_dir: Path | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Verify an archive alone, and against the live database.

    Without --trust the log's keys are those in this machine's data directory; with --offline
    --trust is required. Exit code 0: verified. 1: refuted. 2: no verdict was reached.
    3: incomplete, something was not checked.
    """
    settings = read_settings({"data_dir": data_dir, "archive_url": url})
    target = settings.archive_target
    if target is None:
        raise click.UsageError("Name the archive: --archive file:///folder, or QUIRE_ARCHIVE_URL.")
    own = None if offline else own_pins(settings)
    pins = own if trust is None else _pins(trust.read(_TRUST_BYTES_MAX + 1))
    report = asyncio.run(_verified(settings, target, org, pins, offline))
    if as_json:
        output.print_json(report)
    else:
        _print(org, report)
    verdicts.end(report.verdict)


def _pins(data: bytes) -> KeyPins:
    try:
        return parse_trust(data)
    except KeyHistoryError as error:
        raise CommandFailure(f"--trust: {error}") from error


async def _verified(
    settings: Settings, url: str, org: str, pins: KeyPins | None, offline: bool
) -> ArchiveReport:
    began = time.monotonic()
    keyring = None if offline else _keyring(settings)
    attestors = TrustedAttestors(timestamp_trust(settings), _policy(settings))
    with _progress() as progress:
        task = progress.add_task("", total=None, entries=0)
        done = 0

        def advance(entries: int) -> None:
            nonlocal done
            done += entries
            progress.update(task, entries=done)

        options = ArchiveVerificationOptions(
            target_settings(settings), pins, attestors, None, not offline, advance
        )
        async with named_target(settings, url) as target, _live(settings, org, offline) as live:
            await _require_archive(target, org, live)
            trail, anchors = await verify_archive(target, org, options, keyring=keyring, live=live)
    both = {"trail": _holds(trail), "anchors": _holds(anchors)}
    verdict = combine(both, both)
    return ArchiveReport(verdict, verdict.valid, round(time.monotonic() - began, 3), trail, anchors)


async def _require_archive(target: Target, org: str, live: LiveTrail | None) -> None:
    """Raise CommandFailure if the archive is empty and the database records no archiving to it."""
    async for _ in ArchiveReader(target, org).objects():
        return
    if live is None or not await live.accounts(target.url).upto(live.org_id):
        raise CommandFailure(
            f"Nothing of {org} is archived in {target.url}: check the org's slug and the archive's "
            "URL, or archive it with quire archive run."
        )


def _holds(found: ArchiveVerdict) -> Check:
    return NOT_CHECKED if found.verdict is Verdict.INCOMPLETE else found.valid


def _policy(settings: Settings) -> Policy | None:
    return None if settings.witness_policy is None else witness_policy(settings)


def _keyring(settings: Settings) -> SigningKeyring | None:
    """Return the signing keys of this machine; None where it has none: no signature is checked."""
    try:
        return load_secrets(settings, database_is_new=False).keyring
    except StartupRefused:
        return None


@asynccontextmanager
async def _live(settings: Settings, org: str, offline: bool) -> AsyncIterator[LiveTrail | None]:
    """Yield the database and the org in it; None where there is nothing to compare with."""
    url = None if offline else _database_url(settings)
    if url is None:
        if not offline:
            output.print_message("No database is running here: only the archive is verified.")
        yield None
        return
    database = await Database.open(url, size=2)
    try:
        await require_own_keys_in(database, settings)
        record = await orgs.org_by_slug(database, org)
        master_key = present_master_key(settings)
        key = None if master_key is None else row_key(master_key)
        if record is None:
            output.print_message(f"The database has no org {org}: only its archive is verified.")
        yield None if record is None else LiveTrail(database, record.id, key)
    finally:
        await database.close()


def _database_url(settings: Settings) -> str | None:
    if settings.database_url is not None:
        return settings.database_url
    if not settings.data_dir.is_dir():
        return None
    postgres = EmbeddedPostgres(settings.data_dir)
    return postgres.url(SERVER_ROLE) if postgres.attach() else None


def _progress() -> Progress:
    return Progress(
        TextColumn("Verifying"),
        TextColumn("{task.fields[entries]:,} entries"),
        console=output.terminal(),
        transient=True,
        disable=not output.terminal().is_terminal,
    )


def _print(org: str, report: ArchiveReport) -> None:
    trail, anchors = report.trail, report.anchors
    fields: list[tuple[str, str | Text]] = [
        ("Archive", verdicts.verdict_text(report.verdict, org)),
        ("Entries", f"{trail.entries:,} of {trail.size:,} verified"),
        ("Objects", f"{trail.objects:,} read, {trail.bytes:,} bytes, {report.seconds:.1f} s"),
    ]
    checks = {
        check: getattr(anchors if check in {"external_time", "witnesses"} else trail, check)
        for check in CHECKS
    }
    fields += verdicts.check_fields(checks)
    output.print_fields([*fields, ("anchor log", verdicts.verdict_text(anchors.verdict))])
    faults = [(org, fault) for fault in trail.faults]
    faults += [("_anchors", fault) for fault in anchors.faults]
    if faults:
        click.echo()
        columns = [output.TableColumn("Object"), output.TableColumn("Check", keep=True)]
        columns.append(output.TableColumn("Reason"))
        rows = [(f"{log}/{fault.key}", fault.check, fault.reason) for log, fault in faults]
        output.print_table(columns, rows)
    for log, found in ((org, trail), ("_anchors", anchors)):
        if found.unchecked:
            output.print_message(f"Not checked in {log}: {', '.join(found.unchecked)}.")
    hidden = trail.fault_count + anchors.fault_count - len(faults)
    if hidden > 0:
        output.print_message(f"{count(hidden, 'more fault')} not listed.")
    if trail.unanchored:
        output.print_message(f"No archived anchor covers {count(trail.unanchored, 'checkpoint')}.")
    for warning in dict.fromkeys(trail.warnings + anchors.warnings):
        output.print_message(warning)
