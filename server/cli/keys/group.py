"""`quire keys`."""

import click

from server.cli.base.lazy import LazyGroup
from server.feature import Command

_COMMANDS = {
    "create": Command(
        "server.cli.keys.api_keys:create", "Create an API key and print it, only this once."
    ),
    "list": Command(
        "server.cli.keys.api_keys:list_keys",
        "List an org's API keys, including revoked and expired ones.",
    ),
    "change": Command(
        "server.cli.keys.api_keys:change",
        "Change the name of an API key, or the addresses from which it may be used.",
    ),
    "rotate": Command(
        "server.cli.keys.api_keys:rotate", "Replace an API key, and print the new one once."
    ),
    "revoke": Command(
        "server.cli.keys.api_keys:revoke", "Revoke an API key, at once and permanently."
    ),
    "log": Command("server.cli.keys.log_keys:log", "The keys that sign checkpoints and anchors."),
    "platform": Command(
        "server.cli.keys.platform_keys:platform", "The keys that administer all orgs."
    ),
    "signing": Command(
        "server.cli.keys.signing_keys:signing", "The keys that sign entries, on several machines."
    ),
    "rotate-signing": Command(
        "server.cli.keys.signing_keys:rotate_signing",
        "Add a signing key and sign with it from now on.",
    ),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def keys() -> None:
    """Manage API keys of an org or the platform, the signing keys, and the log keys."""
