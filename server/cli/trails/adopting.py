"""`quire orgs adopt`: registers the row of an org anew, on the server's own machine."""

from __future__ import annotations

from pathlib import Path

import click

from server.cli.base import output
from server.cli.base.administered import administered
from server.cli.base.server_settings import read_settings


@click.command()
@click.argument("org")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory of the server (QUIRE_DATA_DIR, .quire).",
)
@click.option(
    "--from-archive",
    is_flag=True,
    help="The org came back from its archive, by a restore that was interrupted.",
)
def adopt(org: str, data_dir: Path | None, from_archive: bool) -> None:
    """Take the row of ORG that stands in the database for its newest.

    For an org whose older row came back from a backup, or whose restore from the archive was
    interrupted. The row must be one that this server wrote. The org's API keys and its freeze no
    longer count: create new keys. With --from-archive, security events that are not here are not
    taken for removed ones.
    """
    administered(
        read_settings({"data_dir": data_dir}),
        lambda work: work.administration.restored(org, from_archive=from_archive),
    )
    output.print_message(f"The row of {org} counts again. Create new API keys for it.")
