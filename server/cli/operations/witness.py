"""`quire witness`: watch other people's logs, without a database."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click

from ledger.entry import to_datetime
from ledger.note import Signer
from server.cli.base import output
from server.cli.base.server_settings import read_settings
from server.cli.base.text import moment
from server.process.logs import configure
from server.witness.heads import LogHead, WitnessHeads
from server.witness.home import WitnessDirectory, create, load_keys, load_logs
from server.witness.serve import serve as run_witness

_dir = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=Path(".quire-witness"),
    show_default=True,
    help="The witness's directory.",
)


@click.group()
def witness() -> None:
    """Watch other people's logs and cosign their checkpoints.

    A witness remembers the newest checkpoint of each log on its list. It cosigns the next one
    only after a proof that it still holds everything before (C2SP tlog-witness).
    """


@witness.command("init")
@click.argument("name")
@_dir
@output.json_option
def init(name: str, directory: Path, as_json: bool) -> None:
    """Create a witness: keys, state file, empty list of logs.

    NAME can't be changed later. Use a URL of yours without scheme, such as witness.example/w1.
    """
    signers = create(directory, name)
    _print_keys(signers, as_json=as_json)
    output.print_message(
        f"\nNow list the logs to watch in {WitnessDirectory(directory).logs}, each key as: log VKEY"
    )
    output.print_message("Back this directory up, but never run the witness from an older copy.")


@witness.command("show")
@_dir
@output.json_option
def show(directory: Path, as_json: bool) -> None:
    """Show the public keys, and each log's newest checkpoint."""
    home = WitnessDirectory(directory)
    signers, logs = load_keys(home), load_logs(home)
    with closing(WitnessHeads(home.heads)) as heads:
        found = {head.origin: head for head in heads.all()}
    _print_keys(signers, as_json=as_json)
    origins = dict.fromkeys([*(log.verifier.name for log in logs.logs), *found])
    _print_heads([(origin, found.get(origin)) for origin in origins], as_json=as_json)


@witness.command("serve")
@_dir
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8081,
    show_default=True,
    help="TCP port to listen on.",
)
def serve(directory: Path, host: str, port: int) -> None:
    """Run the witness.

    Logs submit their checkpoints to /add-checkpoint under its address.
    """
    configure(read_settings())
    run_witness(directory, host, port, click.echo)


def _print_keys(signers: tuple[Signer, ...], *, as_json: bool) -> None:
    for signer in signers:
        if as_json:
            output.print_json(
                {"name": signer.name, "type": signer.kind.value, "vkey": signer.vkey()}
            )
        else:
            click.echo(signer.vkey())


def _print_heads(heads: Sequence[tuple[str, LogHead | None]], *, as_json: bool) -> None:
    rows = []
    for origin, head in heads:
        if as_json:
            size, time_s = (head.size, head.time_s) if head else (None, None)
            output.print_json({"log": origin, "size": size, "cosigned_at_s": time_s})
        else:
            size_shown = f"{head.size:,}" if head else "-"
            time = to_datetime(head.time_s * 1_000_000) if head else None
            rows.append((origin, size_shown, moment(time)))
    if rows:
        click.echo()
        columns = output.TableColumn("Size", justify="right"), output.TableColumn("Cosigned at")
        output.print_table([output.TableColumn("Log"), *columns], rows)
