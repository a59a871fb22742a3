"""`quire log`: the keys with which others check this server's logs with their own tools."""

from pathlib import Path

import click

from ledger.errors import KeyHistoryError
from ledger.note import Verifier
from server.cli.base import output
from server.cli.base.root import CommandFailure
from server.cli.base.server_settings import read_settings
from server.cli.keys.log_keys import present_log_keys

KEYS_OF_AN_ANCHOR = 2


@click.group("log")
def log() -> None:
    """The signed logs: one for each org, and the anchor log over all of them."""


@log.command("vkey")
@click.argument("org", required=False)
@click.option("--anchors", is_flag=True, help="Print the two keys of the anchor log instead.")
@click.option(
    "--all", "with_retired", is_flag=True, help="Include keys from before a rotation, oldest first."
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Directory of the key file (QUIRE_DATA_DIR, .quire), unless QUIRE_LOG_KEYS is set.",
)
@output.json_option
def vkey(
    org: str | None, anchors: bool, with_retired: bool, data_dir: Path | None, as_json: bool
) -> None:
    """Print the verifier key of ORG's log: name+id+key.

    `quire-verify --log --key`, Go's note package and tlog clients read this form
    (c2sp.org/signed-note). The keys come from the key file of this machine; no secret is
    printed. The anchor log has two: Ed25519, then ML-DSA-44.
    """
    if (org is None) == (not anchors):
        raise click.UsageError("Name either an org, or the anchor log with --anchors.")
    history = present_log_keys(read_settings({"data_dir": data_dir})).public()
    found: tuple[Verifier, ...]
    if org is None:
        found = history.anchor_verifiers()
        newest = found[-KEYS_OF_AN_ANCHOR:]
    else:
        try:
            found = history.org_verifiers(org)
        except KeyHistoryError as error:
            raise CommandFailure(f"{org} can't be the slug of an org: {error}") from error
        newest = found[-1:]
    shown = [key.vkey() for key in (found if with_retired else newest)]
    if as_json:
        output.print_json({"vkeys": shown})
        return
    for line in shown:
        click.echo(line)
