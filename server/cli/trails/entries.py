"""`quire entries`."""

from itertools import islice
from typing import Any

import click
import msgspec

from ledger.client import Entry
from ledger.client.errors import ProtocolError
from ledger.client.models import Order
from server.cli.base import output
from server.cli.base.arguments import Time, org_argument
from server.cli.base.connection import Connection, client_command
from server.cli.base.text import moment
from server.cli.trails.own_entries import OWN_COLUMNS, is_own, own_row

_PAGE_MAX = 1_000
_COLUMNS = [
    output.TableColumn("Seq", keep=True, justify="right"),
    output.TableColumn("Written at, record id", keep=True),
    output.TableColumn("Event, outcome"),
    output.TableColumn("Actor, subject"),
]


@click.group()
def entries() -> None:
    """Read a trail's entries."""


@entries.command("list")
@org_argument
@click.option("--event-type", help="Only entries of this type.")
@click.option("--actor", help="Only entries of this actor.")
@click.option("--subject", help="Only entries about this person.")
@click.option("--action", help="Only entries with this action.")
@click.option("--outcome", help="Only entries with this outcome.")
@click.option("--data-classification", help="Only entries of this class.")
@click.option("--since", type=Time(), help="Only entries written at this time or later.")
@click.option("--until", type=Time(), help="Only entries written before this time.")
@click.option(
    "--order",
    type=click.Choice(["desc", "asc"]),
    default="desc",
    show_default=True,
    help="Newest first, or oldest first.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default="100",
    help="Greatest number of entries to list.",
)
@click.option("--own", "own", is_flag=True, help="Only entries of the server itself, in words.")
@click.option("--all", "no_limit", is_flag=True, help="No limit: follow the trail to its end.")
@output.json_option
@client_command
def list_entries(
    connection: Connection,
    /,
    org: str,
    limit: int,
    no_limit: bool,
    own: bool,
    as_json: bool,
    order: Order,
    **filters: Any,
) -> None:
    """List entries, newest first.

    An entry must match all filters; each compares the whole value.
    """
    # One entry beyond the limit shows that there are more.
    page_size = _PAGE_MAX if no_limit or own else min(limit + 1, _PAGE_MAX)
    with connection.client(org) as client:
        found = client.entries(order=order, page_size=page_size, **filters)
        if own:
            found = (entry for entry in found if is_own(entry))
        shown = found if no_limit else islice(found, limit)
        if as_json:
            for entry in shown:
                output.print_json(entry)
            return
        rows = [own_row(entry) if own else _row(entry) for entry in shown]
        more = not no_limit and next(found, None) is not None
    if rows:
        output.print_table(OWN_COLUMNS if own else _COLUMNS, rows)
    if more:
        output.print_message(
            f"There are more than {limit:,} entries: list them with --limit or --all."
        )
    elif not rows:
        output.print_message("No entries.")


@entries.command()
@org_argument
@click.argument("record_id")
@output.json_option
@client_command
def show(connection: Connection, org: str, record_id: str, as_json: bool) -> None:
    """Show one entry with all its fields and its payload."""
    with connection.client(org) as client:
        entry = client.get(record_id)
    if as_json:
        output.print_json(entry)
        return
    output.print_fields(_fields(entry))


@entries.command()
@org_argument
@click.argument("record_id")
@client_command
def payload(connection: Connection, org: str, record_id: str) -> None:
    """Print one entry's event, byte for byte as it was sent."""
    with connection.client(org) as client:
        content = client.payload(record_id)
    click.echo(content, nl=False)


def _row(entry: Entry) -> tuple[str, ...]:
    happened = ": ".join(part for part in (entry.action, entry.outcome) if part)
    subject = "(erased)" if entry.erased else entry.subject or ""
    return (
        str(entry.seq),
        f"{moment(entry.anchored_at)}\n{entry.record_id}",
        _lines(entry.event_type, happened),
        _lines(entry.actor, subject),
    )


def _lines(first: str | None, second: str) -> str:
    """Return a cell of two lines; line ends inside a value are escaped, so it can't fake both."""
    return "\n".join((part or "-").replace("\n", "\\n") for part in (first, second))


def _fields(entry: Entry) -> list[tuple[str, str]]:
    document = msgspec.structs.asdict(entry)
    for name in ("payload_raw", "payload_base64", "payload_format", "anchored_at"):
        del document[name]
    # A hash and its name fit into 80 columns.
    document["classification"] = document.pop("data_classification")
    fields = [(name.replace("_", " "), _shown(value)) for name, value in document.items()]
    fields.insert(2, ("written at", entry.anchored_at.isoformat()))
    return [*fields, ("payload", _payload(entry))]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def _payload(entry: Entry) -> str:
    if entry.erased:
        return "(erased)"
    if entry.key_not_restored:
        return "(sealed: the key was not restored with the trail)"
    if entry.payload_base64 is not None:
        return f"({entry.payload_format}) {entry.payload_base64}"
    if entry.payload_format == "sealed":
        return "(sealed: this API key is not allowed to open it)"
    try:
        return msgspec.json.format(bytes(entry.payload_raw), indent=2).decode()
    except (msgspec.MsgspecError, ValueError) as error:
        raise ProtocolError(f"the payload of {entry.record_id} is not JSON") from error
