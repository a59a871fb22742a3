"""The output of commands: tables for people, one JSON object a line for programs."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from server.cli.base.text import printable

_PIPED_WIDTH = 4_000  # a pipe has no width, so nothing is wrapped

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")


class TableColumn(NamedTuple):
    """A column of a table; `keep`: never wrapped, however narrow the terminal is."""

    title: str
    keep: bool = False
    justify: Literal["left", "right"] = "left"


def terminal() -> Console:
    """Return the console of standard error, for progress bars."""
    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def print_table(columns: Sequence[TableColumn], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under a header; a cell may have several lines."""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
        header_style="bold",
    )
    for column in columns:
        table.add_column(column.title, no_wrap=column.keep, justify=column.justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell, keep_lines=True)) for cell in row))
    _print(table)


def print_fields(fields: Iterable[tuple[str, str | Text]]) -> None:
    """Print names and values, one below the other; a Text keeps its colours."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        shown = value if isinstance(value, Text) else Text(printable(value, keep_lines=True))
        table.add_row(Text(name, style="bold"), shown)
    _print(table)


def print_json(document: object) -> None:
    """Print one JSON document on a line of its own.

    An event's JSON is kept as it was sent, so it may contain line ends, which are removed here.
    """
    encoded = msgspec.json.encode(document)
    if b"\n" in encoded or b"\r" in encoded:
        encoded = msgspec.json.format(encoded, indent=-1)
    click.echo(encoded)


def print_message(text: str = "") -> None:
    """Print a message that is not the command's result, on standard error."""
    click.echo(printable(text, keep_lines=True), err=True)


def _print(table: Table) -> None:
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
