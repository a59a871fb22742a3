"""`quire serve`."""

import sys
from pathlib import Path

import click

from server.cli.base.server_settings import read_settings
from server.process.children.forking import fork_server_running
from server.process.serve import serve as run_server


@click.command(epilog="`quire settings` lists all settings.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on (QUIRE_HOST, 127.0.0.1).")
@click.option("--port", type=int, help="TCP port to listen on (QUIRE_PORT, 8080).")
@click.option("--workers", type=int, help="Server processes (QUIRE_WORKERS, 1).")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Keys and embedded PostgreSQL (QUIRE_DATA_DIR, .quire).",
)
def serve(host: str | None, port: int | None, workers: int | None, data_dir: Path | None) -> None:
    """Run the server.

    Without QUIRE_DATABASE_URL it starts the embedded PostgreSQL in its data directory, where
    the first start also makes the keys. An option overrides the setting in brackets.
    """
    options = {"host": host, "port": port, "workers": workers, "data_dir": data_dir}
    with fork_server_running():
        sys.exit(run_server(read_settings(options)))
