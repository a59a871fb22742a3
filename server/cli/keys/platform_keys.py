"""`quire keys platform`: the keys that administer all orgs, on the server's own machine.

The commands use the database directly and need no API key, so they can replace a lost one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import click

from ledger import sealing
from ledger.storage import security_events
from ledger.storage.api_keys import ApiKeyRecord, ApiKeyTable
from ledger.storage.database import Database
from server.access.auth import Authenticator
from server.access.platform_keys import PLATFORM_KEY
from server.cli.base import output
from server.cli.base.private_file import locked_directory, replace_private_file
from server.cli.base.root import CommandFailure
from server.cli.base.server_settings import read_settings
from server.cli.base.text import count, moment
from server.cli.keys.api_keys import FORGED
from server.keys.first_start import load_master_key
from server.process.database.own_database import own_database
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
    settings = _settings(data_dir)
    master_key = load_master_key(settings)
    found = _in_database(settings, lambda database: _keys(database, master_key).of_org(None))
    if as_json:
        for key in found:
            output.print_json(_document(key))
        return
    columns = [output.TableColumn("Key", keep=True), output.TableColumn("Name")]
    columns += [output.TableColumn("Created", keep=True), output.TableColumn("Revoked", keep=True)]
    rows = [(key.id, key.name, moment(key.created_at), _revoked(key)) for key in found]
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
    authenticator_key = load_master_key(settings)
    path = make_data_dir(settings.data_dir) / PLATFORM_KEY
    with locked_directory(path.parent):  # two rotations run one after the other
        rotated = _in_database(
            settings, lambda database: _rotate(path, database, authenticator_key, keep)
        )
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
    settings = _settings(data_dir)
    master_key = load_master_key(settings)
    _in_database(settings, lambda database: _revoke(key_id, database, master_key))
    output.print_message(f"Platform key {key_id} is revoked.")


async def _rotate(path: Path, database: Database, master_key: bytes, keep: bool) -> RotatedKey:
    """Make and store a new key, then revoke the older ones.

    A crash in between leaves the older keys valid; the next rotation revokes them.
    """
    authenticator = Authenticator(database, master_key)
    keys = authenticator.keys
    older = [] if keep else await _valid_ids(keys)
    new = authenticator.new_key()
    await keys.add(new.key_id, None, "rotation", "platform", new.secret_hash)
    replace_private_file(path, new.token.encode() + b"\n")
    for key_id in older:
        await keys.revoke(key_id, None)
    detail = f"{new.key_id} was made; revoked: {', '.join(older) or 'none'}"
    await security_events.add(database, None, "platform_key_rotated", detail)
    return RotatedKey(new.key_id, str(path), older)


async def _revoke(key_id: str, database: Database, master_key: bytes) -> None:
    keys = _keys(database, master_key)
    valid = await _valid_ids(keys)
    if key_id not in valid:
        raise CommandFailure(
            f"No valid platform key has the id {key_id}. List them with: quire keys platform list"
        )
    if valid == [key_id]:
        raise CommandFailure(
            f"{key_id} is the last valid platform key. Replace it with: quire keys platform rotate"
        )
    await keys.revoke(key_id, None)
    await security_events.add(database, None, "platform_key_revoked", key_id)


async def _valid_ids(keys: ApiKeyTable) -> list[str]:
    return [key.id for key in await keys.of_org(None) if key.is_valid]


def _keys(database: Database, master_key: bytes) -> ApiKeyTable:
    return ApiKeyTable(database, sealing.row_key(master_key))


def _settings(data_dir: Path | None) -> Settings:
    return read_settings({"data_dir": data_dir})


def _in_database(settings: Settings, work: Callable[[Database], Awaitable[R]]) -> R:
    async def run(url: str) -> R:
        database = await Database.open(url, size=1)
        try:
            return await work(database)
        finally:
            await database.close()

    with own_database(settings) as urls:
        return asyncio.run(run(urls.server))


def _revoked(key: ApiKeyRecord) -> str:
    return moment(key.revoked_at) if key.is_authentic else FORGED


def _document(key: ApiKeyRecord) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
        "authentic": key.is_authentic,
    }
