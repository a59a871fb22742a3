"""`quire archive restore`: restores orgs into a database from their archive alone."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ledger.archive.restore.run import Restore, RestoreInputs, RestoreResult
from ledger.archive.verification.anchoring import TrustedAttestors
from ledger.blocks.block import SYSTEM_ORG
from ledger.chain import ChainHead
from ledger.checkpoint import SignedTreeHead
from ledger.core.checkpointing import MEMORY_FILE, recall
from ledger.core.sealing.sealer import new_org_key
from ledger.entry import to_datetime
from ledger.errors import KeyHistoryError
from ledger.log_keys import KeyPins, parse_trust
from ledger.sealing import row_key
from ledger.storage import partitions
from ledger.storage.clock import now_us
from ledger.storage.database import Database
from server.access.administering import administering
from server.cli.base import output
from server.cli.base.root import CommandFailure
from server.cli.base.server_settings import read_settings
from server.cli.base.text import count
from server.keys.attestors import timestamp_trust, witness_policy
from server.keys.first_start import load_secrets, read_log_keys
from server.keys.head_memory import open_heads
from server.keys.keyring import LiveKeyring
from server.keys.own_keys import claim
from server.process.database.own_database import own_database
from server.process.losses.opening import accepted
from server.settings import Settings
from server.trails.archive_targets import named_target

_TRUST_BYTES_MAX = 1 << 20


@click.command()
@click.argument("orgs", nargs=-1, required=True)
@click.option("--archive", "url", help="The archive's URL; QUIRE_ARCHIVE_URL if left out.")
@click.option(
    "--trust",
    type=click.File("rb"),
    help="Pins of the log's keys, or their history; by default those of log-keys.json.",
)
@click.option(
    "--shorter", is_flag=True, help="Restore even if less is archived than was signed or appended."
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

    Name all orgs to restore. Everything is verified before it becomes visible; the keys that
    sign entries and logs must be in place.
    """
    settings = read_settings({"data_dir": data_dir, "archive_url": url})
    target = settings.archive_target
    if target is None:
        raise click.UsageError("Name the archive: --archive file:///folder, or QUIRE_ARCHIVE_URL.")
    pins = None if trust is None else _pins(trust.read(_TRUST_BYTES_MAX + 1))
    inputs = _inputs(settings, pins)
    with own_database(settings) as urls:
        restored, warnings = asyncio.run(
            _restored(settings, target, urls.owner, inputs, orgs, shorter)
        )
        asyncio.run(_finish(settings, urls.server, [one.org for one in restored]))
        # A crash from here on leaves the trails refused; `quire orgs accept-loss` goes on.
        for result in restored:
            if result.lost:
                reason = "restored from an archive that had no more entries"
                asyncio.run(accepted(settings, urls, result.org, reason))
    for result in restored:
        if as_json:
            output.print_json(result._asdict())
        else:
            _print(result)
    for warning in warnings:
        output.print_message(f"{warning}.")


def _pins(data: bytes) -> KeyPins:
    try:
        return parse_trust(data)
    except KeyHistoryError as error:
        raise CommandFailure(f"--trust: {error}") from error


def _inputs(settings: Settings, pins: KeyPins | None) -> RestoreInputs:
    secrets = load_secrets(settings, database_is_new=False)
    if pins is None:
        keys = read_log_keys(settings)
        if keys is None:
            raise click.UsageError(
                f"{settings.log_keys_path} does not exist: restore it, or name the log's keys with "
                "--trust."
            )
        pins = keys.public().pins()

    def remembered(org_ids: Sequence[int]) -> Mapping[int, SignedTreeHead]:
        return recall(settings.data_dir / MEMORY_FILE, org_ids)

    def acknowledged(org_id: int) -> ChainHead | None:
        with closing(open_heads(settings, secrets.master_key, has_orgs=False)) as heads:
            return heads.get(org_id)

    policy = None if settings.witness_policy is None else witness_policy(settings)
    return RestoreInputs(
        secrets.keyring,
        pins,
        lambda slug: new_org_key(secrets.master_key, slug),
        row_key(secrets.master_key),
        remembered,
        acknowledged,
        TrustedAttestors(timestamp_trust(settings), policy),
    )


async def _restored(
    settings: Settings,
    url: str,
    owner_url: str,
    inputs: RestoreInputs,
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
                inputs,
                shorter=shorter,
                on_progress=lambda org, done, of: progress.update(
                    tasks[org], completed=done, total=of
                ),
            )
            return await work.run(orgs), work.warnings


async def _finish(settings: Settings, url: str, orgs: Sequence[str]) -> None:
    """Record the owner of the database, and the rows of the restored orgs.

    After a crash before this, the first start records the owner, and `quire orgs adopt` the rows.
    """
    secrets = load_secrets(settings, database_is_new=False)
    database = await Database.open(url, size=1)
    try:
        await claim(database, settings, secrets)
        await partitions.prepare(database, to_datetime(await now_us(database)))
        keyring = LiveKeyring.of(settings, secrets.keyring)
        async with administering(
            database, keyring, secrets.master_key, None, adopts=True
        ) as administration:
            for slug in sorted(orgs, key=lambda slug: slug != SYSTEM_ORG):
                await administration.restored(slug, from_archive=True)
    finally:
        await database.close()


def _print(result: RestoreResult) -> None:
    click.echo(
        f"{result.org}: {count(result.entries, 'entry', 'entries')} and "
        f"{count(result.checkpoints, 'checkpoint')} restored and verified."
    )
    if result.lost:
        output.print_message(
            f"{count(result.lost, 'entry', 'entries')} more were signed or appended but not "
            "archived. Their loss is accepted: the newest entry of the trail names them, and the "
            "signer goes on from there."
        )
    if result.was_public:
        output.print_message(
            "The archive says that its log was public. Nobody signed that, so the log is not "
            "public now. Publish it again if it should be public."
        )
    if not result.with_keys:
        output.print_message(
            "Its sealing keys were not in the database: payloads sealed so far stay sealed. "
            "Create new API keys for it."
        )
