"""`quire import`."""

import click

from server.cli.base.lazy import LazyGroup
from server.feature import Command

_COMMANDS = {
    "qwed": Command("server.cli.imports.qwed:import_qwed", "Copy QWED's audit trail into an org."),
}


@click.group("import", cls=LazyGroup, lazy=_COMMANDS)
def imports() -> None:
    """Import trails of other systems."""
