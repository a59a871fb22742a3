"""`quire keys create | list | revoke`: the API keys of an org."""

from typing import Final, get_args

import click

from ledger.client import ApiKey
from ledger.client.models import Role
from server.cli.base import output
from server.cli.base.arguments import org_argument
from server.cli.base.connection import Connection, client_command
from server.cli.base.text import moment


@click.command()
@org_argument
@click.option("--name", required=True, help="What the key is for.")
@click.option(
    "--role",
    type=click.Choice(get_args(Role)),
    default="member",
    show_default=True,
    help="admin: everything in the org; member: append and read; viewer: read.",
)
@output.json_option
@client_command
def create(connection: Connection, org: str, name: str, role: Role, as_json: bool) -> None:
    """Create an API key and print it, only this once.

    Standard output receives the key alone, so that `> file` stores it.
    """
    with connection.client(org) as client:
        key = client.create_key(name, role)
    if as_json:
        output.print_json(key)
        return
    output.print_message(f"Key {key.id} of {org} ({key.role}). It is not shown again:")
    click.echo(key.key)


FORGED: Final = "refused: changed in the database"


@click.command("list")
@org_argument
@output.json_option
@client_command
def list_keys(connection: Connection, org: str, as_json: bool) -> None:
    """List an org's API keys, including revoked ones."""
    with connection.client(org) as client:
        found = client.keys()
    if as_json:
        for key in found:
            output.print_json(key)
        return
    if not found:
        output.print_message(
            f"{org} has no API keys. Create one with: quire keys create {org} --name NAME"
        )
        return
    columns = [
        output.TableColumn("Key", keep=True),
        output.TableColumn("Name"),
        output.TableColumn("Role", keep=True),
        output.TableColumn("Created", keep=True),
        output.TableColumn("Revoked", keep=True),
    ]
    output.print_table(columns, [_row(key) for key in found])


@click.command()
@org_argument
@click.argument("key_id")
@client_command
def revoke(connection: Connection, org: str, key_id: str) -> None:
    """Revoke an API key, at once and permanently."""
    with connection.client(org) as client:
        client.revoke_key(key_id)
    output.print_message(f"Key {key_id} of {org} is revoked.")


def _row(key: ApiKey) -> tuple[str, ...]:
    revoked = moment(key.revoked_at) if key.authentic else FORGED
    return key.id, key.name, key.role, moment(key.created_at), revoked
