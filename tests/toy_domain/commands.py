"""`quire toys`."""

import click


@click.command()
def toys() -> None:
    """List the toys."""
    click.echo("a tin frog")
