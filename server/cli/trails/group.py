"""`quire orgs`."""

import click

from server.cli.base.lazy import LazyGroup
from server.feature import Command

_COMMANDS = {
    "create": Command(
        "server.cli.trails.orgs:create", "Create an org. Slug and privacy can't be changed later."
    ),
    "list": Command("server.cli.trails.orgs:list_orgs", "List all orgs."),
    "show": Command(
        "server.cli.trails.orgs:show", "Show an org, its head, and the reason if it is frozen."
    ),
    "rename": Command(
        "server.cli.trails.orgs:rename", "Change the NAME of an org, but not its slug."
    ),
    "thaw": Command("server.cli.trails.orgs:thaw", "Let a frozen org accept entries again."),
    "adopt": Command(
        "server.cli.trails.adopting:adopt",
        "Take the row of ORG that stands in the database for its newest.",
    ),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def orgs() -> None:
    """Create and manage orgs (with the platform key).

    An org is a tenant; it has exactly one trail.
    """
