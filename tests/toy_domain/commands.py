"""`quire toys`."""

import click


@click.command()
def toys() -> None:
    """Say what toys are there."""
    click.echo("a tin frog")
