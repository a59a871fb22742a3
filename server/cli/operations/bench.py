"""`quire bench`."""

from importlib import import_module
from pathlib import Path

import click

CHECKOUT = Path(__file__).parents[3]


@click.command()
@click.option("--quick", is_flag=True, help="A tenth of the work, in under two minutes.")
def bench(quick: bool) -> None:
    """Measure speed and write bench/results/latest.json.

    The benchmark is part of the repository, not of the installed package.
    """
    if not (CHECKOUT / "bench" / "__main__.py").is_file():
        raise click.UsageError(
            "The benchmark is not in the installed package: run make bench in a checkout."
        )
    benchmark = import_module("bench.__main__")
    raise click.exceptions.Exit(benchmark.main(["--quick"] if quick else []) or 0)
