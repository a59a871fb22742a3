"""`quire archive restore`: orgs come back into a database from their archive alone."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ledger.archive.restore.run import Restore, RestoreInputs, RestoreResult
from ledger.archive.verification.anchoring import TrustedAttestors
from ledger.checkpoint import SignedTreeHead
from ledger.core.checkpointing import MEMORY_FILE, recall
from ledger.core.sealing.sealer import new_org_key
from ledger.errors import KeyHistoryError
from ledger.log_keys import KeyPins, parse_trust
from ledger.storage.database import Database
from server.cli.base import output
from server.cli.base.own_database import own_database
from server.cli.base.root import CommandFailure
from server.cli.base.server_settings import read_settings
from server.cli.base.text import count
from server.keys.attestors import timestamp_trust, witness_policy
from server.keys.first_start import load_secrets, read_log_keys
from server.keys.own_keys import claim
from server.settings import Settings
from server.trails.archive_targets import named_target

_TRUST_BYTES_MAX = 1 << 20


@click.command()
@click.argument("orgs", nargs=-1, required=True)
@click.option("--archive", "url", help="The archive's URL; QUIRE_ARCHIVE_URL if left out.")
@click.option(
    "--trust",
    type=click.File("rb"),
    help="Pins of the log's keys, or their history; without it, log-keys.json says them.",
)
@click.option(
    "--shorter", is_flag=True, help="Also where less is archived than was signed or appended."
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory: its keys, and the embedded database (QUIRE_DATA_DIR, .quire).",
)
@output.json_option
def restore(
    orgs: tuple[str, ...],
    url: str | None,
    trust: BinaryIO | None,
    shorter: bool,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Restore orgs into a database that does not have them, all or none.

    Name all orgs of the archive that are to come back. Everything is verified before it is
    there; the keys that sign entries and logs must be in place.
    """
    settings = read_settings({"data_dir": data_dir, "archive_url": url})
    target = settings.archive_target
    if target is None:
        raise click.UsageError("Name the archive: --archive file:///folder, or QUIRE_ARCHIVE_URL.")
    pins = None if trust is None else _pins(trust.read(_TRUST_BYTES_MAX + 1))
    means = _means(settings, pins)
    with own_database(settings) as urls:
        restored, warnings = asyncio.run(
            _restored(settings, target, urls.owner, means, orgs, shorter)
        )
        asyncio.run(_claim(settings, urls.server))
    for one in restored:
        if as_json:
            output.print_json(one._asdict())
        else:
            _print(one)
    for warning in warnings:
        output.say(f"{warning}.")


def _pins(data: bytes) -> KeyPins:
    try:
        return parse_trust(data)
    except KeyHistoryError as error:
        raise CommandFailure(f"--trust: {error}") from error


def _means(settings: Settings, pins: KeyPins | None) -> RestoreInputs:
    secrets = load_secrets(settings, database_is_new=False)
    if pins is None:
        keys = read_log_keys(settings)
        if keys is None:
            raise click.UsageError(
                f"{settings.log_keys_path} does not exist: restore it, or say by --trust which "
                "keys are the log's."
            )
        pins = keys.public().pins()

    def remembered(org_ids: Sequence[int]) -> Mapping[int, SignedTreeHead]:
        return recall(settings.data_dir / MEMORY_FILE, org_ids)

    policy = None if settings.witness_policy is None else witness_policy(settings)
    return RestoreInputs(
        secrets.keyring,
        pins,
        lambda slug: new_org_key(secrets.master_key, slug),
        remembered,
        TrustedAttestors(timestamp_trust(settings), policy),
    )


async def _restored(
    settings: Settings,
    url: str,
    owner_url: str,
    means: RestoreInputs,
    orgs: Sequence[str],
    shorter: bool,
) -> tuple[list[RestoreResult], list[str]]:
    with Progress(
        TextColumn("Restoring {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=output.terminal(),
        transient=True,
        disable=not output.terminal().is_terminal,
    ) as progress:
        tasks = {org: progress.add_task(org, total=None) for org in orgs}
        async with named_target(settings, url) as target:
            work = Restore(
                target,
                owner_url,
                means,
                shorter=shorter,
                on_progress=lambda org, done, of: progress.update(
                    tasks[org], completed=done, total=of
                ),
            )
            return await work.run(orgs), work.warnings


async def _claim(settings: Settings, url: str) -> None:
    """Say whose database this is; a crash before leaves that to the first start."""
    database = await Database.open(url, size=1)
    try:
        await claim(database, settings, load_secrets(settings, database_is_new=False))
    finally:
        await database.close()


def _print(one: RestoreResult) -> None:
    click.echo(
        f"{one.org}: {count(one.entries, 'entry', 'entries')} and "
        f"{count(one.checkpoints, 'checkpoint')} restored and verified."
    )
    if one.lost:
        output.say(
            f"{count(one.lost, 'entry', 'entries')} more were signed or appended and not archived. "
            "The trail takes entries and is not signed any more: nothing is signed twice."
        )
    if one.was_public:
        output.say(
            "Its log was public, as the archive says, which nobody signed; it is not public now. "
            "Make it so again if it is meant to be."
        )
    if not one.with_keys:
        output.say(
            "Its keys were not in the database: sealed payloads that were written so far stay "
            "sealed. API keys are to be made anew."
        )
