"""`quire archive run` and `quire archive status`: requests to the server."""

import click

from ledger.client import Archive
from server.cli.base import output
from server.cli.base.arguments import org_argument
from server.cli.base.connection import Connection, client_command
from server.cli.base.text import count, moment


@click.command()
@org_argument
@click.option(
    "--wait",
    type=click.IntRange(0, 60),
    default=30,
    show_default=True,
    help="Seconds to wait until it is archived.",
)
@output.json_option
@client_command
def run(connection: Connection, org: str, wait: int, as_json: bool) -> None:
    """Archive a trail up to its newest checkpoint now.

    Exit code 0: archived. 1: not finished yet, or a problem prevents it.
    """
    with connection.client(org) as client:
        archived = client.archive(wait_seconds=wait)
    _show(org, archived, as_json)
    if archived.size < archived.signed:
        raise click.exceptions.Exit(1)


@click.command()
@org_argument
@output.json_option
@client_command
def status(connection: Connection, org: str, as_json: bool) -> None:
    """Show how far a trail is archived, and the problem that prevents it, if any.

    Exit code 1: there is a problem.
    """
    with connection.client(org) as client:
        found = client.archive_status()
    _show(org, found, as_json)
    if found.problem is not None:
        raise click.exceptions.Exit(1)


def _show(org: str, archive: Archive, as_json: bool) -> None:
    if as_json:
        output.print_json(archive)
        return
    fields = [
        ("Trail", org),
        (
            "Archived",
            f"{archive.size:,} of {count(archive.signed, 'signed entry', 'signed entries')}",
        ),
        ("Last run", moment(archive.archived_at)),
        ("Objects", f"{archive.objects:,} written, {archive.bytes:,} bytes"),
        ("Kept in a", _kept(archive)),
    ]
    if archive.problem is not None:
        reason = archive.problem.reason or "the operator of the server can see the reason"
        fields.append(("Problem", f"since {moment(archive.problem.since)}: {reason}"))
    output.print_fields(fields)


def _kept(archive: Archive) -> str:
    locks = [f"locked for {count(archive.retain_days, 'day')}"] if archive.retain_days else []
    locks += ["under legal hold"] if archive.legal_hold else []
    return ", ".join([archive.target, *locks]) if archive.target == "bucket" else archive.target
