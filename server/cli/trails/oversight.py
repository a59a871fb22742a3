"""`quire orgs`: security events, their acknowledgement, and reviews of the trail."""

from typing import Any

import click

from ledger.client import SecurityEventInfo
from server.cli.base import output
from server.cli.base.arguments import Time, org_argument
from server.cli.base.connection import Connection, client_command
from server.cli.base.text import moment, printable

_COLUMNS = [
    output.TableColumn("Event", keep=True, justify="right"),
    output.TableColumn("At", keep=True),
    output.TableColumn("Severity", keep=True),
    output.TableColumn("Kind", keep=True),
    output.TableColumn("Detail"),
    output.TableColumn("State"),
]


@click.command()
@org_argument
@click.option("--kind", help="Only events of this kind.")
@click.option(
    "--severity",
    type=click.Choice(["low", "medium", "high", "critical"]),
    help="Only events that are this serious.",
)
@click.option("--since", type=Time(), help="Only events at this time or later.")
@click.option("--until", type=Time(), help="Only events before this time.")
@click.option("--open", "is_open", is_flag=True, help="Only events that nobody has dealt with.")
@output.json_option
@client_command
def events(
    connection: Connection, /, org: str, is_open: bool, as_json: bool, **filters: Any
) -> None:
    """List the security events of an org, newest first."""
    wanted = {**filters, "acknowledged": False if is_open else None}
    with connection.client(org) as client:
        found = list(client.security_events(**wanted))
    if as_json:
        for event in found:
            output.print_json(event)
        return
    if not found:
        output.print_message(f"There are no such security events of {org}.")
        return
    output.print_table(_COLUMNS, map(_row, found))


def _row(event: SecurityEventInfo) -> tuple[str, ...]:
    said = event.acknowledged
    state = "open" if said is None else f"key:{said.key}: {said.reason}"
    return str(event.id), moment(event.at), event.severity, event.kind, event.detail, state


@click.command()
@org_argument
@click.argument("event", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why it needs no more attention.")
@output.json_option
@client_command
def acknowledge(connection: Connection, org: str, event: int, reason: str, as_json: bool) -> None:
    """State that you dealt with security EVENT, and why. It becomes an entry of the trail."""
    with connection.client(org) as client:
        done = client.acknowledge_event(event, reason)
    if as_json:
        output.print_json(done)
        return
    click.echo(printable(f"Event {done.id} of {org} ({done.kind}) is acknowledged."))


@click.command()
@org_argument
@click.option("--from", "first", required=True, help="The first day (UTC), as 2026-01-31.")
@click.option("--to", "last", required=True, help="The last day (UTC).")
@click.option("--notes", default="", help="What you found.")
@output.json_option
@client_command
def review(
    connection: Connection, org: str, first: str, last: str, notes: str, as_json: bool
) -> None:
    """State that you reviewed the trail of some days. It becomes an entry of the trail."""
    with connection.client(org) as client:
        done = client.record_review(first, last, notes)
    if as_json:
        output.print_json(done)
        return
    text = f"The review of {org} from {first} to {last} is recorded as {done.record_id}."
    click.echo(printable(text))
