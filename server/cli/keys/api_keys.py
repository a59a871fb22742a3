"""`quire keys create | list | change | rotate | revoke`: the API keys of an org."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final, get_args

import click

from ledger.client import ApiKey
from ledger.client.models import Role
from server.access.rights import MUST_EXPIRE
from server.cli.base import output
from server.cli.base.arguments import org_argument
from server.cli.base.connection import Connection, client_command
from server.cli.base.text import FORGED, moment

_KEY_ID: Final = re.compile(r"[0-9a-f]{16}")

_allow = click.option(
    "--allow",
    multiple=True,
    metavar="CIDR",
    help="Address or range from which the key may be used; may be repeated.",
)


@click.command()
@org_argument
@click.option("--name", required=True, help="What the key is for.")
@click.option(
    "--role",
    type=click.Choice(get_args(Role)),
    default="member",
    show_default=True,
    help="admin: everything in the org; member: append and read; auditor: read, list keys, see "
    "security events; viewer: read.",
)
@click.option(
    "--expires-in",
    type=click.IntRange(1, 365),
    metavar="DAYS",
    help="Days until the key expires, 1 to 365 (90).",
)
@click.option("--never", is_flag=True, help="The key never expires (platform key).")
@_allow
@output.json_option
@client_command
def create(
    connection: Connection,
    org: str,
    name: str,
    role: Role,
    expires_in: int | None,
    never: bool,
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Create an API key and print it, only this once.

    Standard output receives the key alone, so that `> file` stores it.
    """
    if never and expires_in is not None:
        raise click.UsageError("Give --expires-in or --never, not both.")
    if never and role in MUST_EXPIRE:
        raise click.UsageError(f"A key of the role {role} must expire: give --expires-in DAYS.")
    days = None if never else expires_in or 90
    with connection.client(org) as client:
        key = client.create_key(name, role, expires_in_days=days, allowed_cidrs=allow)
    if as_json:
        output.print_json(key)
        return
    ends = "never expires" if key.expires_at is None else f"expires {moment(key.expires_at)}"
    output.print_message(f"Key {key.id} of {org} ({key.role}), {ends}. It is not shown again:")
    click.echo(key.key)


@click.command("list")
@org_argument
@click.option(
    "--expiring",
    type=click.IntRange(0),
    metavar="DAYS",
    help="Only valid keys that expire within DAYS; with --unused, keys of either kind.",
)
@click.option(
    "--unused",
    type=click.IntRange(0),
    metavar="DAYS",
    help="Only valid keys that were not used for DAYS.",
)
@output.json_option
@client_command
def list_keys(
    connection: Connection, org: str, expiring: int | None, unused: int | None, as_json: bool
) -> None:
    """List an org's API keys, including revoked and expired ones."""
    with connection.client(org) as client:
        found = client.keys()
    now = datetime.now(UTC)
    if expiring is not None or unused is not None:
        found = [
            key
            for key in found
            if _is_valid(key, now) and (_expires(key, now, expiring) or _idle(key, now, unused))
        ]
    if as_json:
        for key in found:
            output.print_json(key)
        return
    if not found and expiring is None and unused is None:
        output.print_message(
            f"{org} has no API keys. Create one with: quire keys create {org} --name NAME"
        )
        return
    columns = [
        output.TableColumn("Key", keep=True),
        output.TableColumn("Name"),
        output.TableColumn("Role", keep=True),
        output.TableColumn("Created", keep=True),
        output.TableColumn("Expires", keep=True),
        output.TableColumn("Last used", keep=True),
        output.TableColumn("State"),
    ]
    output.print_table(columns, [_row(key, now) for key in found])


@click.command()
@org_argument
@click.argument("key_id")
@click.option("--name", help="What the key is for.")
@_allow
@click.option("--allow-any", is_flag=True, help="The key may be used from any address.")
@client_command
def change(
    connection: Connection,
    org: str,
    key_id: str,
    name: str | None,
    allow: tuple[str, ...],
    allow_any: bool,
) -> None:
    """Change the name of an API key, or the addresses from which it may be used."""
    if allow and allow_any:
        raise click.UsageError("Give --allow or --allow-any, not both.")
    ranges = allow if allow or allow_any else None
    if name is None and ranges is None:
        raise click.UsageError("Give --name, --allow or --allow-any.")
    with connection.client(org) as client:
        client.update_key(key_id, name=name, allowed_cidrs=ranges)
    output.print_message(f"Key {key_id} of {org} is changed.")


@click.command()
@click.argument("names", nargs=-1, metavar="[ORG] [KEY_ID]")
@click.option(
    "--overlap",
    type=click.IntRange(0, 720),
    default=24,
    show_default=True,
    metavar="HOURS",
    help="Hours for which the old key stays valid.",
)
@output.json_option
@client_command
def rotate(connection: Connection, names: tuple[str, ...], overlap: int, as_json: bool) -> None:
    """Replace an API key, by default the one in use, and print the new one, only this once.

    Standard output receives the key alone, so that `> file` stores it.
    """
    org, key_id = _named(names)
    with connection.client(org or connection.own_org()) as client:
        key = client.rotate_key(key_id, overlap_hours=overlap)
    if as_json:
        output.print_json(key)
        return
    output.print_message(
        f"Key {key.id} replaces {key.replaces}, which is valid until {moment(key.old_expires_at)}. "
        "It is not shown again:"
    )
    click.echo(key.key)


@click.command()
@org_argument
@click.argument("key_id")
@client_command
def revoke(connection: Connection, org: str, key_id: str) -> None:
    """Revoke an API key, at once and permanently."""
    with connection.client(org) as client:
        client.revoke_key(key_id)
    output.print_message(f"Key {key_id} of {org} is revoked.")


def _named(names: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Return the org and the key that the arguments name; a single one may be either."""
    if len(names) > 2:
        raise click.UsageError(f"Got unexpected extra arguments ({' '.join(names[2:])})")
    if len(names) == 1 and _KEY_ID.fullmatch(names[0]) is not None:
        return None, names[0]
    org, key_id = (*names, None, None)[:2]
    return org, key_id


def _is_valid(key: ApiKey, now: datetime) -> bool:
    live = key.expires_at is None or key.expires_at > now
    return live and key.authentic and key.revoked_at is None


def _expires(key: ApiKey, now: datetime, days: int | None) -> bool:
    return days is not None and (key.expires_at or datetime.max.replace(tzinfo=UTC)) <= (
        now + timedelta(days=days)
    )


def _idle(key: ApiKey, now: datetime, days: int | None) -> bool:
    """Return whether a key was not used for some days; one that was never used, since it was made."""
    used = key.last_used_at or key.created_at
    return days is not None and used <= now - timedelta(days=days)


def _row(key: ApiKey, now: datetime) -> tuple[str, ...]:
    expires = "never" if key.expires_at is None else moment(key.expires_at)
    used = moment(key.last_used_at)
    return key.id, key.name, key.role, moment(key.created_at), expires, used, _state(key, now)


def _state(key: ApiKey, now: datetime) -> str:
    """Return what a key is worth now, in words."""
    if not key.authentic:
        return FORGED
    if key.revoked_at is not None:
        return f"revoked {moment(key.revoked_at)}"
    if key.expires_at is not None and key.expires_at <= now:
        return "expired"
    if key.rotated_to is not None:
        return f"replaced by {key.rotated_to}"
    where = f" from {', '.join(key.allowed_cidrs)}" if key.allowed_cidrs else ""
    return f"{'rotate it' if key.rotation_required else 'valid'}{where}"
