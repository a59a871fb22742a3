"""`quire keys rotate-signing`: a change of the keyring file, without a server."""

import secrets
from pathlib import Path

import click

from ledger.errors import MissingKey
from ledger.keys import SigningKey, SigningKeyring, dump_keyring, parse_keyring
from server.cli.base import output
from server.cli.base.private_file import locked_directory, replace_private_file
from server.cli.base.server_settings import read_settings
from server.cli.base.text import count
from server.keys.first_start import read_private_file

_SECRET_BYTES = 32


@click.command("rotate-signing")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Directory of the keyring (QUIRE_DATA_DIR, .quire), unless QUIRE_SIGNING_KEYRING is set.",
)
@output.json_option
def rotate_signing(data_dir: Path | None, as_json: bool) -> None:
    """Add a signing key and sign with it from now on.

    All earlier keys are kept, so older entries still verify. Running servers that read this file
    sign with the new key within seconds; copy the file to servers on other machines, and keep a
    copy of it.
    """
    settings = read_settings({"data_dir": data_dir})
    path = settings.signing_keyring_path.resolve()  # the file itself where it is a link
    ring = _rotate(path, settings.audit_secret_key)
    if as_json:
        document = {"active": ring.active.key_id, "keys": ring.ids(), "file": str(path)}
        output.print_json(document)
        return
    click.echo(f"Signing key {ring.active.key_id} is active.")
    output.print_message(f"{path} holds {count(len(ring.ids()), 'key')}; keep a copy of it.")
    output.print_message(
        "Running servers that read this file sign with the new key within seconds."
    )


def _rotate(path: Path, environment_secret: str | None) -> SigningKeyring:
    # Two rotations at once must not lose a key: entries may already be signed with it.
    with locked_directory(path.parent):
        ring = _current(path, environment_secret)
        rotated = ring.rotated(
            SigningKey(f"k-{secrets.token_hex(6)}", secrets.token_bytes(_SECRET_BYTES))
        )
        content = dump_keyring(rotated)
        parse_keyring(content)  # never write a file that a server can't read
        replace_private_file(path, content)
    return rotated


def _current(path: Path, environment_secret: str | None) -> SigningKeyring:
    """Return the keys in use: those of the file, and the one of the environment."""
    content = read_private_file(path)
    from_environment = environment_secret and SigningKeyring.from_secret(
        environment_secret.encode("utf-8", "surrogateescape")
    )
    if content is None:
        if not from_environment:
            raise MissingKey(
                f"There is no keyring to rotate: {path} does not exist. The first `quire serve` "
                "makes one; --data-dir or QUIRE_SIGNING_KEYRING name another place."
            )
        return from_environment
    ring = parse_keyring(content)
    return ring.with_key(from_environment.active) if from_environment else ring
