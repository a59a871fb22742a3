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

    They are read from the environment. The server does not start if the environment has an
    unknown name that begins with QUIRE_.
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
