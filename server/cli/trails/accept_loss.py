"""`quire orgs accept-loss`: goes on after acknowledged entries were lost, on the server's machine."""

import asyncio
from pathlib import Path

import click

from server.cli.base import output
from server.cli.base.private_file import locked_directory
from server.cli.base.server_settings import read_settings
from server.cli.base.text import count
from server.process.database.own_database import own_database
from server.process.losses.opening import accepted
from server.settings.data_dir import make_data_dir


@click.command("accept-loss")
@click.argument("org")
@click.option("--reason", required=True, help="Why the entries are lost; recorded as an entry.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory of the server (QUIRE_DATA_DIR, .quire).",
)
@output.json_option
def accept_loss(org: str, reason: str, data_dir: Path | None, as_json: bool) -> None:
    """Let the trail of ORG go on although entries that were acknowledged are lost.

    Bring the entries back first if you can: restore a backup of the database. The loss is named in
    an entry of the trail and can't be undone. Refused if nothing is lost.
    """
    settings = read_settings({"data_dir": data_dir})
    with own_database(settings) as urls, locked_directory(make_data_dir(settings.data_dir)):
        loss = asyncio.run(accepted(settings, urls, org, reason))
    first, last = loss.lost
    if as_json:
        output.print_json({"org": org, **loss.document()})
        return
    lost = count(last - first + 1, "entry", "entries")
    click.echo(f"{org}: the loss of {lost} ({first} to {last}) is accepted and recorded.")
    if loss.signed is not None:
        output.print_message(
            f"{loss.signed.size} entries were signed. The signer goes on with the smaller tree: who "
            "keeps an older checkpoint sees that the two disagree, and the entry says why."
        )
