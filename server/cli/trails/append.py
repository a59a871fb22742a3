"""`quire append`."""

import os
import stat
from typing import BinaryIO, Self

import click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from ledger.client import LedgerError
from server.cli.base import output
from server.cli.base.arguments import FileOrOrg, org_argument
from server.cli.base.connection import PATIENT_ATTEMPTS, Connection, client_command
from server.cli.base.ndjson import BadLine, EventLines
from server.cli.base.text import count, printable
from server.cli.trails.appending import Appending, AppendOutcome, AppendStopped


@click.command()
@org_argument
@click.argument("file", type=FileOrOrg("rb"), default="-")
@click.option(
    "--idempotency-prefix",
    metavar="TEXT",
    help="Makes repeating the command with the same input safe: nothing is appended twice.",
)
@click.option(
    "--keep-going", is_flag=True, help="Skip bad lines instead of stopping at the first one."
)
@output.json_option
@client_command
def append(
    connection: Connection,
    org: str,
    file: BinaryIO,
    idempotency_prefix: str | None,
    keep_going: bool,
    as_json: bool,
) -> None:
    """Append events, one JSON object a line, from FILE or standard input.

    A single argument is ORG if it could be a slug (a-z, 0-9, hyphens), else FILE.

    Events are sent in batches of 1,000, each atomic. At a line that is not an event the command
    stops with exit code 1, after appending everything before that line; --keep-going skips only
    that line.
    """
    if file.isatty():
        output.print_message(
            "Reading events from the terminal, one JSON object a line; end with ^D."
        )
    lines = EventLines(file)
    with connection.client(org, attempts=PATIENT_ATTEMPTS) as client, _Progress(lines, file) as bar:
        appending = Appending(
            client,
            idempotency_prefix=idempotency_prefix,
            keep_going=keep_going,
            on_step=bar.step,
            on_bad_line=bar.bad_line,
        )
        failure = _run(appending, lines)
    outcome = appending.outcome
    _print_json(org, outcome) if as_json else _print(org, outcome)
    if failure is not None:
        last = outcome.last_line
        unconfirmed = f"Lines after {last} are not" if last else "No line is"
        output.print_message(f"{unconfirmed} confirmed as appended.")
        raise failure
    if outcome.rejected_count:
        output.print_message(
            f"{count(outcome.rejected_count, 'line')} skipped; all others are appended."
            if keep_going
            else f"Stopped at line {outcome.last_line}; all lines before it are appended."
        )
        raise click.exceptions.Exit(1)


def _run(appending: Appending, lines: EventLines) -> BaseException | None:
    """Append all lines; return the error that ended it early, to raise after the summary."""
    try:
        appending.run(lines)
    except AppendStopped:
        return None
    except (LedgerError, KeyboardInterrupt, OSError) as error:
        return error
    return None


class _Progress:
    """A progress bar on a terminal's standard error, by bytes of a file; silent elsewhere."""

    def __init__(self, lines: EventLines, file: BinaryIO) -> None:
        self._lines = lines
        size = _size(file)
        bar = (BarColumn(), TaskProgressColumn()) if size else ()
        text = TextColumn("{task.fields[appended]:,} appended")
        self._progress = Progress(
            text, *bar, TimeElapsedColumn(), console=output.terminal(), transient=True
        )
        self._progress.disable = not self._progress.console.is_terminal
        self._task = self._progress.add_task("", total=size, appended=0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, outcome: AppendOutcome) -> None:
        self._progress.update(
            self._task, completed=self._lines.bytes_read, appended=outcome.appended
        )

    def bad_line(self, bad: BadLine) -> None:
        # Through the console, which keeps the bar below it.
        text = Text(printable(f"line {bad.line}: {bad.reason}"))
        self._progress.console.print(text, soft_wrap=True)


def _size(file: BinaryIO) -> int | None:
    """Return the size of a regular file in bytes, None for a pipe or a terminal."""
    try:
        status = os.fstat(file.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _print(org: str, outcome: AppendOutcome) -> None:
    head = outcome.head
    if outcome.appended and head is not None:
        entries = count(outcome.appended, "entry", "entries")
        click.echo(f"Appended {entries} to {org}, the last as seq {outcome.last_seq}.")
        click.echo(f"Head: seq {head.seq}, {head.entry_hash}")
    else:
        click.echo(f"Appended nothing to {org}.")


def _print_json(org: str, outcome: AppendOutcome) -> None:
    head = outcome.head
    output.print_json(
        {
            "org": org,
            "appended": outcome.appended,
            "first_seq": outcome.first_seq,
            "last_seq": outcome.last_seq,
            "head": head and {"seq": head.seq, "entry_hash": head.entry_hash},
            "last_line": outcome.last_line,
            "rejected_count": outcome.rejected_count,
            "rejected": [bad._asdict() for bad in outcome.rejected],
        }
    )
