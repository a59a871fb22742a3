"""`quire import`."""

import click

from server.cli.lazy import Lazy, LazyGroup

_COMMANDS = {
    "qwed": Lazy("server.cli.import_qwed:import_qwed", "Copy QWED's audit trail into an org."),
}


@click.group("import", cls=LazyGroup, lazy=_COMMANDS)
def imports() -> None:
    """Bring in trails of other systems."""
