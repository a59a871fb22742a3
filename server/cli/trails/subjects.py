"""`quire subjects`."""

import sys

import click

from server.cli.base import output
from server.cli.base.arguments import org_argument
from server.cli.base.connection import Connection, client_command
from server.cli.base.text import printable


@click.group()
def subjects() -> None:
    """Erase a person's data."""


@subjects.command()
@org_argument
@click.argument("subject")
@click.option("--yes", is_flag=True, help="Erase without asking.")
@output.json_option
@client_command
def erase(connection: Connection, org: str, subject: str, yes: bool, as_json: bool) -> None:
    """Erase a SUBJECT: destroy the key of all payloads about this person.

    They become unreadable in every copy, permanently. The trail still verifies. Only an org with
    sealed payloads can erase.
    """
    if not yes and not _confirmed(org, subject):
        output.print_message("Nothing was erased.")
        raise click.exceptions.Exit(1)
    with connection.client(org) as client:
        erasure = client.erase_subject(subject)
    if as_json:
        output.print_json(erasure)
        return
    recorded = f", recorded as {erasure.record_id}" if erasure.record_id else ""
    click.echo(printable(f"{erasure.subject} is erased from {org}{recorded}."))


def _confirmed(org: str, subject: str) -> bool:
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("Standard input is not a terminal: confirm the erasure with --yes.")
    question = f"Make all payloads about {subject} in {org} unreadable, in every copy, permanently?"
    return click.confirm(printable(question), err=True)
