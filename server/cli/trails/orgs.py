"""`quire orgs`: the commands that send requests to a server."""

import click

from ledger.client import Org
from server.cli.base import output
from server.cli.base.arguments import org_argument
from server.cli.base.connection import Connection, client_command
from server.cli.base.text import FORGED, moment


@click.command()
@click.argument("slug")
@click.option("--name", help="Display name; by default the slug.")
@click.option(
    "--privacy",
    type=click.Choice(["sealed", "plain"]),
    default="sealed",
    show_default=True,
    help="Whether payloads are encrypted per person, so that a person can be erased.",
)
@output.json_option
@client_command
def create(
    connection: Connection, slug: str, name: str | None, privacy: str, as_json: bool
) -> None:
    """Create an org. Slug and privacy can't be changed later."""
    with connection.client() as client:
        org = client.create_org(slug, name, "plain" if privacy == "plain" else "sealed")
    _show(org, as_json)


@click.command("list")
@output.json_option
@client_command
def list_orgs(connection: Connection, as_json: bool) -> None:
    """List all orgs."""
    with connection.client() as client:
        if as_json:
            for org in client.orgs():
                output.print_json(org)
            return
        rows = [_row(org) for org in client.orgs()]
    if not rows:
        output.print_message("There are no orgs yet. Create one with: quire orgs create SLUG")
        return
    columns = [
        output.TableColumn("Org", keep=True),
        output.TableColumn("Name"),
        output.TableColumn("Privacy"),
        output.TableColumn("Entries", justify="right"),
        output.TableColumn("Created", keep=True),
        output.TableColumn("State", keep=True),
    ]
    output.print_table(columns, rows)


@click.command()
@org_argument
@output.json_option
@client_command
def show(connection: Connection, org: str, as_json: bool) -> None:
    """Show an org, its head, and the reason if it is frozen."""
    with connection.client(org) as client:
        _show(client.org(), as_json)


@click.command()
@org_argument
@click.argument("name")
@output.json_option
@client_command
def rename(connection: Connection, org: str, name: str, as_json: bool) -> None:
    """Change the NAME of an org, but not its slug."""
    with connection.client(org) as client:
        _show(client.update_org(name=name), as_json)


@click.command()
@org_argument
@click.option("--entries", type=click.IntRange(0), help="Entries in a day (UTC); 0: any number.")
@click.option("--bytes", "size", type=click.IntRange(0), help="Bytes of bodies; 0: any number.")
@output.json_option
@client_command
def quota(
    connection: Connection, org: str, entries: int | None, size: int | None, as_json: bool
) -> None:
    """Set how much may be appended to an org in a day; needs a platform key."""
    if entries is None and size is None:
        raise click.UsageError("give --entries, --bytes or both")
    with connection.client(org) as client:
        _show(client.update_org(entries_a_day=entries, bytes_a_day=size), as_json)


@click.command("key-age")
@org_argument
@click.option(
    "--days",
    type=click.IntRange(0, 365),
    required=True,
    help="Days after which a key should be rotated; 0: any age will do.",
)
@output.json_option
@client_command
def key_age(connection: Connection, org: str, days: int, as_json: bool) -> None:
    """Set the age from which API keys of an org are shown as to be rotated."""
    with connection.client(org) as client:
        _show(client.update_org(max_key_age_days=days), as_json)


@click.command()
@org_argument
@click.option("--reason", required=True, help="Why the org is thawed; recorded as an entry.")
@output.json_option
@client_command
def thaw(connection: Connection, org: str, reason: str, as_json: bool) -> None:
    """Let a frozen org accept entries again.

    An org is frozen when its newest entry fails the check before an append. Verify the trail
    first (`quire verify ORG`): its faults stay, and verifications still report them.
    """
    with connection.client(org) as client:
        _show(client.thaw(reason), as_json)


def _row(org: Org) -> tuple[str, ...]:
    entries = f"{_entries(org):,}"
    state = "frozen" if org.frozen else "open"
    if not org.authentic:
        state = FORGED
    return org.slug, org.name, org.privacy, entries, moment(org.created_at)[:10], state


def _entries(org: Org) -> int:
    return org.head.seq + 1 if org.head else 0


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def _show(org: Org, as_json: bool) -> None:
    if as_json:
        output.print_json(org)
        return
    fields = [
        ("Org", org.slug),
        ("Name", org.name),
        ("Privacy", org.privacy),
        ("Created", f"{moment(org.created_at)} UTC"),
        ("Entries", f"{_entries(org):,}"),
    ]
    if org.entries_a_day:
        fields.append(("Entries a day", f"{org.entries_a_day:,} at most"))
    if org.bytes_a_day:
        fields.append(("Bytes a day", f"{org.bytes_a_day:,} at most"))
    if org.max_key_age_days:
        fields.append(("Rotate keys", f"older than {_days(org.max_key_age_days)}"))
    if org.head and org.head.entry_hash:
        fields.append(("Head", org.head.entry_hash))
    if org.frozen:
        fields.append(("Frozen", f"{moment(org.frozen.at)} UTC: {org.frozen.reason}"))
    output.print_fields(fields)
