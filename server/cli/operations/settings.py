"""`quire settings`."""

import click

from server.app.features import FEATURES
from server.cli.base import output
from server.feature import added_settings
from server.settings import documented


@click.command()
@output.json_option
def settings(as_json: bool) -> None:
    """List the server's settings: name, default, meaning.

    All are read from the environment. A name that begins with QUIRE_ and is none of them stops
    the start of the server.
    """
    rows = documented(added_settings(FEATURES))
    if as_json:
        for row in rows:
            output.print_json(row._asdict())
        return
    output.print_table(
        [
            output.TableColumn("Setting", keep=True),
            output.TableColumn("Default"),
            output.TableColumn("Meaning"),
        ],
        [(row.name, row.default or "-", row.description) for row in rows],
    )
