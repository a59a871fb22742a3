"""`quire keys signing` and `rotate-signing`: changes of the keyring file, without a server."""

import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ledger.errors import KeyringError, MissingKey
from ledger.keys import SigningKey, SigningKeyring, dump_keyring, parse_keyring
from server.cli.base import output
from server.cli.base.private_file import locked_directory, replace_private_file
from server.cli.base.server_settings import read_settings
from server.cli.base.text import count
from server.keys.first_start import read_private_file
from server.keys.key_files import KEY_FILE_BYTES_MAX
from server.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
_SECRET_BYTES = 32
_TAKEN_UP = "Running servers that read this file sign with it within seconds."


def _keyring_option(command: F) -> F:
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        help="Directory of the keyring (QUIRE_DATA_DIR, .quire), unless QUIRE_SIGNING_KEYRING is set.",
    )(command)


@click.group("signing")
def signing() -> None:
    """The keys that sign entries."""


@signing.command("list")
@_keyring_option
@output.json_option
def list_keys(data_dir: Path | None, as_json: bool) -> None:
    """List the keys of this machine's keyring, oldest first; no secret is printed.

    Two machines that show the same id with the same fingerprint have the same key.
    """
    path, settings = _place(data_dir)
    ring = _current(path, settings.audit_secret_key)
    if as_json:
        for key in ring.keys():
            output.print_json(
                {"id": key.key_id, "active": key is ring.active, "fingerprint": key.fingerprint}
            )
        return
    columns = [output.TableColumn("Key", keep=True), output.TableColumn("Signs", keep=True)]
    columns += [output.TableColumn("Fingerprint", keep=True)]
    rows = [(key.key_id, _signs(ring, key), key.fingerprint) for key in ring.keys()]
    output.print_table(columns, rows)


@signing.command()
@click.option(
    "--import",
    "source",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Add the keys of another machine's keyring file (-: standard input); make none.",
)
@_keyring_option
@output.json_option
def add(source: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Add a key to the keyring; entries are still signed with the active one.

    Do this on each machine before one of them activates the key: make it on one, and add it on
    the others with --import and the keyring file of the first.
    """
    path, settings = _place(data_dir)
    new = [_new_key()] if source is None else _keys_of(source)

    def added(ring: SigningKeyring) -> SigningKeyring:
        if source is not None:
            _require_shared_key(path, ring, new, source)
        return ring.with_keys(new)

    before, ring = _change(path, settings, added)
    fresh = [key_id for key_id in ring.ids() if key_id not in before.ids()]
    if as_json:
        output.print_json({"added": fresh, **_document(path, ring)})
        return
    for key_id in fresh:
        click.echo(f"Signing key {key_id} is added; {ring.active.key_id} still signs.")
    if not fresh:
        click.echo(f"{path} has all keys of {source} already.")
    output.print_message(_held(path, ring))
    if source is None:
        output.print_message(
            "Add it on every other machine: quire keys signing add --import FILE. Then, on each: "
            f"quire keys signing activate {fresh[0]}"
        )


@signing.command()
@click.argument("key_id", required=False)
@_keyring_option
@output.json_option
def activate(key_id: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Sign with a key of the keyring from now on: KEY_ID, or the newest one.

    A machine that lacks the key refuses appends after the first entry that is signed with it, so
    add it on every machine first. Nothing is lost by going back to an older key.
    """
    path, settings = _place(data_dir)

    def activated(ring: SigningKeyring) -> SigningKeyring:
        newest = ring.ids()[-1]
        if key_id is None and newest == ring.active.key_id:
            raise KeyringError(
                f"No key of {path} is newer than the active one, {newest}. Add one with: quire keys "
                "signing add"
            )
        return ring.activated(newest if key_id is None else key_id)

    before, ring = _change(path, settings, activated)
    if as_json:
        output.print_json(_document(path, ring))
        return
    already = "was active already" if ring.active.key_id == before.active.key_id else "is active"
    click.echo(f"Signing key {ring.active.key_id} {already}.")
    output.print_message(_TAKEN_UP)


@click.command("rotate-signing")
@_keyring_option
@output.json_option
def rotate_signing(data_dir: Path | None, as_json: bool) -> None:
    """Add a signing key and sign with it from now on.

    For a server on one machine; with several use `quire keys signing add` and `activate`. All
    earlier keys are kept, so older entries still verify. Running servers that read this file sign
    with the new key within seconds. Keep a copy of the file.
    """
    path, settings = _place(data_dir)
    _, ring = _change(path, settings, lambda ring: ring.rotated(_new_key()))
    if as_json:
        output.print_json(_document(path, ring))
        return
    click.echo(f"Signing key {ring.active.key_id} is active.")
    output.print_message(_held(path, ring))
    output.print_message(_TAKEN_UP)


def _place(data_dir: Path | None) -> tuple[Path, Settings]:
    """Return the keyring file, the file itself where it is a link, and the settings."""
    settings = read_settings({"data_dir": data_dir})
    return settings.signing_keyring_path.resolve(), settings


def _change(
    path: Path, settings: Settings, change: Callable[[SigningKeyring], SigningKeyring]
) -> tuple[SigningKeyring, SigningKeyring]:
    """Replace the keyring file, unless nothing changes; return the keys before and after.

    A crash leaves the old file or the new one. Two changes at once must not lose a key, as entries
    may already be signed with it: they run one after the other.
    """
    with locked_directory(path.parent):
        before = _current(path, settings.audit_secret_key)
        after = change(before)
        content = dump_keyring(after)
        parse_keyring(content)  # never write a file that a server can't read
        if content != read_private_file(path):
            replace_private_file(path, content)
    return before, after


def _current(path: Path, environment_secret: str | None) -> SigningKeyring:
    """Return the keys in use: those of the file, and the one of the environment."""
    content = read_private_file(path)
    from_environment = environment_secret and SigningKeyring.from_secret(
        environment_secret.encode("utf-8", "surrogateescape")
    )
    if content is None:
        if not from_environment:
            raise MissingKey(
                f"There is no keyring to change: {path} does not exist. The first `quire serve` "
                "makes one; --data-dir or QUIRE_SIGNING_KEYRING name another place."
            )
        return from_environment
    ring = parse_keyring(content)
    return ring.with_key(from_environment.active) if from_environment else ring


def _keys_of(source: Path) -> list[SigningKey]:
    """Return the keys of another machine's keyring file."""
    if str(source) == "-":
        content: bytes | None = sys.stdin.buffer.read(KEY_FILE_BYTES_MAX)
    else:
        content = read_private_file(source)
    if content is None:
        raise MissingKey(
            f"{source} does not exist. Copy the keyring file of another machine there."
        )
    return parse_keyring(content).keys()


def _require_shared_key(
    path: Path, ring: SigningKeyring, other: list[SigningKey], source: Path
) -> None:
    if not set(ring.ids()).intersection(key.key_id for key in other):
        raise KeyringError(
            f"{source} is the keyring of another database: {path} has none of its keys. Nothing was "
            "changed"
        )


def _new_key() -> SigningKey:
    return SigningKey(f"k-{secrets.token_hex(6)}", secrets.token_bytes(_SECRET_BYTES))


def _signs(ring: SigningKeyring, key: SigningKey) -> str:
    return "yes" if key is ring.active else "no"


def _document(path: Path, ring: SigningKeyring) -> dict[str, object]:
    return {"active": ring.active.key_id, "keys": ring.ids(), "file": str(path)}


def _held(path: Path, ring: SigningKeyring) -> str:
    return f"{path} holds {count(len(ring.ids()), 'key')}; keep a copy of it."
