"""`python -m bench`: measure, print the table, write bench/results/latest.json."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from bench import figures
from bench.figures import Figure
from bench.scope import Scope
from bench.stage import open_stage
from bench.table import TABLE, measures

INTERRUPTED = 130
KEYS = [row.key for row in TABLE]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the selected rows; return the exit code: 1 for a missed target under --strict."""
    options = _options(argv)
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        measured = _measure(console, options)
    except KeyboardInterrupt:
        console.print("stopped; nothing was written")
        return INTERRUPTED
    report = figures.report(measured, quick=options.quick, scale=options.scale)
    figures.show(TABLE, report)
    figures.save(report, options.output)
    console.print(f"written to {options.output}")
    return 1 if options.strict and not all(figure.met for figure in measured.values()) else 0


def _measure(console: Console, options: argparse.Namespace) -> dict[str, Figure]:
    measured: dict[str, Figure] = {}
    measure = measures()
    with open_stage() as stage:
        scope = Scope(stage, quick=options.quick, scale=options.scale)
        for row in TABLE:
            if row.key not in options.only:
                continue
            started = time.monotonic()
            with console.status(f"{row.key}: {row.work} against {row.against}"):
                measured[row.key] = figures.judge(row, measure[row.key](scope))
            console.print(f"{row.key}: {time.monotonic() - started:.0f} s")
    return measured


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        default=os.environ.get("QUICK", "") not in {"", "0"},
        help="a tenth of the work, in some three minutes; QUICK=1 does the same",
    )
    parser.add_argument(
        "--only",
        type=_keys,
        default=KEYS,
        metavar="KEY[,KEY]",
        help=f"measure these rows only: {', '.join(KEYS)}",
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply all amounts of work")
    parser.add_argument("--output", type=Path, default=figures.RESULTS, help="file for the JSON")
    return parser.parse_args(argv)


def _keys(text: str) -> list[str]:
    keys = text.split(",")
    unknown = sorted(set(keys) - set(KEYS))
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown row {', '.join(unknown)}; the rows are: {', '.join(KEYS)}"
        )
    return keys


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
