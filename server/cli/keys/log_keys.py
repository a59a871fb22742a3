"""`quire keys log`: the keys that sign checkpoints and anchors, without a server."""

from pathlib import Path

import click

from ledger.entry import to_datetime
from ledger.errors import MissingKey
from ledger.log_keys import LogKeyHistory, LogKeys, PublicLogKey, dump_log_keys, parse_log_keys
from ledger.log_keys import rotate as rotated
from server.cli.base import output
from server.cli.base.private_file import locked_directory, replace_private_file
from server.cli.base.server_settings import read_settings
from server.cli.base.text import count, moment
from server.keys.first_start import new_log_seeds, read_log_keys
from server.settings import Settings
from server.trails.clock import ServerClock

_data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Directory of the key file (QUIRE_DATA_DIR, .quire), unless QUIRE_LOG_KEYS is set.",
)


@click.group("log")
def log() -> None:
    """The keys that sign checkpoints and anchors."""


@log.command("show")
@_data_dir
@click.option("--pins", is_flag=True, help="Print the pins that your auditors need to verify.")
@output.json_option
def show(data_dir: Path | None, pins: bool, as_json: bool) -> None:
    """Show the public history of the log keys; no secret is printed.

    --json prints the signed history itself. --pins prints the digests of its statements. Send
    them to auditors by a channel that does not pass through this server.
    """
    history = present_log_keys(read_settings({"data_dir": data_dir})).public()
    if pins:
        click.echo(history.pins().document())
    elif as_json:
        output.print_json(history.as_document())
    else:
        _print(history)


@log.command("rotate")
@_data_dir
@output.json_option
def rotate(data_dir: Path | None, as_json: bool) -> None:
    """Appoint a new log key, signed by the one before it.

    Everything signed so far stays verifiable with the public history. The seeds of the old key
    are erased from the file. A server that reads the file signs with the new key within seconds.
    """
    settings = read_settings({"data_dir": data_dir})
    if settings.log_signing_keys is not None:
        raise click.UsageError(
            "The log keys come from QUIRE_LOG_SIGNING_KEYS. Write them to a file of mode 0600, "
            "rotate it with QUIRE_LOG_KEYS instead, and set the variable to its new content."
        )
    path = settings.log_keys_path.resolve()  # the file itself where it is a link
    keys = _rotate(settings, path)
    if as_json:
        ids = [key.id for key in keys.public().keys]
        output.print_json({"active": keys.active_id, "keys": ids, "file": str(path)})
        return
    click.echo(f"Log key {keys.active_id} is active.")
    output.print_message(f"{path} holds its seeds and the history; keep a copy of it.")
    output.print_message(
        "A running server that reads this file signs with the new key within seconds."
    )


def _rotate(settings: Settings, path: Path) -> LogKeys:
    # Two rotations at once must not appoint two successors of one key.
    with locked_directory(path.parent):
        keys = present_log_keys(settings)
        keys = rotated(
            keys, new_log_seeds(), ServerClock(settings)()
        )  # its time can't be corrected
        content = dump_log_keys(keys)
        parse_log_keys(content)  # never write a file that the signer can't read
        replace_private_file(path, content)
    return keys


def present_log_keys(settings: Settings) -> LogKeys:
    """Return the log keys of this machine. Raises MissingKey where there are none yet."""
    keys = read_log_keys(settings)
    if keys is None:
        raise MissingKey(
            f"There is no log key yet: {settings.log_keys_path} does not exist. The first "
            "`quire serve` makes one; --data-dir or QUIRE_LOG_KEYS name another place."
        )
    return keys


def _print(history: LogKeyHistory) -> None:
    ed25519, _ml_dsa = history.anchor_verifiers()[-2:]
    output.print_fields(
        [
            ("Logs of", history.origin),
            ("Keys", count(len(history.keys), "key")),
            ("Anchors", ed25519.vkey()),
        ]
    )
    click.echo()
    columns = [output.TableColumn("Key", keep=True), output.TableColumn("From", keep=True)]
    columns += [
        output.TableColumn("Until", keep=True),
        output.TableColumn("SHA-256 of its statement"),
    ]
    output.print_table(columns, [_row(key) for key in history.keys])


def _row(key: PublicLogKey) -> tuple[str, str, str, str]:
    until = None if key.retired_us is None else to_datetime(key.retired_us)
    return key.id, moment(to_datetime(key.created_us)), moment(until), key.digest
