"""`quire keys platform`: the keys that administer all orgs, on the server's own machine.

The commands use the database directly and need no API key, so they can replace a lost one.
"""

from pathlib import Path
from typing import NamedTuple, TypeVar

import click

from ledger.storage import security_events
from ledger.storage.api_keys import ApiKeyRecord
from server.access.keys.changes import AskedKey, KeyChanges
from server.access.keys.platform_keys import PLATFORM_KEY
from server.cli.base import output
from server.cli.base.administered import AdministrativeWork, administered
from server.cli.base.private_file import locked_directory, replace_private_file
from server.cli.base.root import CommandFailure
from server.cli.base.server_settings import read_settings
from server.cli.base.text import FORGED, count, moment
from server.settings import Settings
from server.settings.data_dir import make_data_dir

R = TypeVar("R")

_data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory of the server (QUIRE_DATA_DIR, .quire).",
)


class RotatedKey(NamedTuple):
    """A new key, its file, and the ids of the keys that it replaced."""

    id: str
    file: str
    revoked: list[str]


@click.group("platform")
def platform() -> None:
    """The keys that administer all orgs."""


@platform.command("list")
@_data_dir
@output.json_option
def list_keys(data_dir: Path | None, as_json: bool) -> None:
    """List the platform's API keys, including revoked ones."""
    found = administered(_settings(data_dir), lambda work: work.keys.of_org(None))
    if as_json:
        for key in found:
            output.print_json(_document(key))
        return
    columns = [output.TableColumn("Key", keep=True), output.TableColumn("Name")]
    columns += [output.TableColumn("Created", keep=True), output.TableColumn("Revoked", keep=True)]
    rows = [(key.id, key.row.name, moment(key.row.created_at), _revoked(key)) for key in found]
    output.print_table(columns, rows)


@platform.command()
@click.option("--keep", is_flag=True, help="Keep the older platform keys valid.")
@_data_dir
@output.json_option
def rotate(keep: bool, data_dir: Path | None, as_json: bool) -> None:
    """Make a new platform key and revoke all older ones.

    The key is written to platform.key in the data directory and not printed. This command also
    replaces a lost platform key. Running servers apply the change at once.
    """
    settings = _settings(data_dir)
    path = make_data_dir(settings.data_dir) / PLATFORM_KEY
    with locked_directory(path.parent):  # two rotations run one after the other
        rotated = administered(settings, lambda work: _rotate(path, work, keep))
    if as_json:
        output.print_json(rotated._asdict())
        return
    click.echo(f"Platform key {rotated.id} is in {rotated.file}.")
    if rotated.revoked:
        output.print_message(f"{count(len(rotated.revoked), 'older platform key')} revoked.")


@platform.command()
@click.argument("key_id")
@_data_dir
def revoke(key_id: str, data_dir: Path | None) -> None:
    """Revoke a platform key, at once and permanently; the last one can only be rotated."""
    administered(_settings(data_dir), lambda work: _revoke(key_id, work))
    output.print_message(f"Platform key {key_id} is revoked.")


async def _rotate(path: Path, work: AdministrativeWork, keep: bool) -> RotatedKey:
    """Make and store a new key, then revoke the older ones.

    A crash in between leaves the older keys valid; the next rotation revokes them.
    """
    older = [] if keep else await _valid(work)
    new = work.authenticator.new_key()
    key = AskedKey(new.key_id, None, "rotation", "platform", new.secret_hash, None)
    changes = KeyChanges(work.administration)
    await changes.add(key, None)
    replace_private_file(path, new.token.encode() + b"\n")
    for old in older:
        await changes.revoke(old, None)
    revoked = [old.id for old in older]
    detail = f"{new.key_id} was made; revoked: {', '.join(revoked) or 'none'}"
    await security_events.add(work.database, None, "platform_key_rotated", detail)
    return RotatedKey(new.key_id, str(path), revoked)


async def _revoke(key_id: str, work: AdministrativeWork) -> None:
    valid = {key.id: key for key in await _valid(work)}
    if key_id not in valid:
        raise CommandFailure(
            f"No valid platform key has the id {key_id}. List them with: quire keys platform list"
        )
    if len(valid) == 1:
        raise CommandFailure(
            f"{key_id} is the last valid platform key. Replace it with: quire keys platform rotate"
        )
    await KeyChanges(work.administration).revoke(valid[key_id], None)
    await security_events.add(work.database, None, "platform_key_revoked", key_id)


async def _valid(work: AdministrativeWork) -> list[ApiKeyRecord]:
    return [key for key in await work.keys.of_org(None) if work.authenticator.is_valid(key)]


def _settings(data_dir: Path | None) -> Settings:
    return read_settings({"data_dir": data_dir})


def _revoked(key: ApiKeyRecord) -> str:
    return moment(key.row.revoked_at) if key.is_authentic else FORGED


def _document(key: ApiKeyRecord) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.row.name,
        "created_at": key.row.created_at,
        "revoked_at": key.row.revoked_at,
        "last_used_at": key.last_used_at,
        "authentic": key.is_authentic,
    }
