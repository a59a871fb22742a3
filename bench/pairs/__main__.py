"""`python -m bench.pairs --base COMMIT`: CPU per event of this checkout over that of a commit.

Both sides run `quire serve` with their own embedded database. A pair is one
session of each; the sides take turns in going first, so that the drift of a
shared machine affects both equally. It counts the CPU of the server, of
PostgreSQL and of the signer, until the signer has signed all appended entries.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from bench.load import LoadClient
from bench.pairs.checkout import NoSuchCommit, commit, working_tree
from bench.pairs.cpu import Cpu
from bench.pairs.rows import ROWS, measure
from bench.pairs.serving import Side
from bench.stage import reaped_directory

ITSELF: Final = "."
PAIRS: Final = 9
COLUMNS: Final = 150
"""Width of the table if it is not printed to a terminal."""
RESULTS: Final = Path(__file__).parents[1] / "results" / "pairs.json"


class Compared(msgspec.Struct):
    """One row: microseconds of CPU per event of each session, and the ratio of each pair."""

    before: list[Cpu] = []
    after: list[Cpu] = []

    @property
    def ratios(self) -> list[float]:
        return [
            ours.total / theirs.total for ours, theirs in zip(self.after, self.before, strict=True)
        ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write bench/results/pairs.json; return 1 above --at-most."""
    options = _options(argv)
    console = Console(stderr=True)
    try:
        before = working_tree() if options.base == ITSELF else commit(options.base)
        after = commit(options.after) if options.after else working_tree()
    except NoSuchCommit as error:
        console.print(str(error), markup=False)
        return 2
    found = {key: Compared([], []) for key in options.rows}
    with reaped_directory() as directory, LoadClient() as client:
        sides = (
            Side(before, directory / "before"),
            Side(after, directory / "after", guarded=True),
        )
        for pair in range(options.pairs):
            console.print(f"pair {pair + 1} of {options.pairs}")
            for side in sides if pair % 2 == 0 else sides[::-1]:
                with side.session() as session:
                    for key in options.rows:
                        cpu = measure(key, session, client, options.scale)
                        row = found[key]
                        (row.before if side is sides[0] else row.after).append(cpu)
    _show(found, before.name, after.name)
    _save(found, before.name, after.name, options.output)
    worst = max(median(row.ratios) for row in found.values())
    return 1 if options.at_most is not None and worst > options.at_most else 0


def _show(found: dict[str, Compared], before: str, after: str) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=COLUMNS)
    title = f"CPU, µs per event: {after} over {before} (server + PostgreSQL + signer)"
    table = Table(title=title, title_justify="left")
    for name in ("row", "ratio", "quartiles", "least to most", "after", "before", "pairs"):
        table.add_column(name, justify="left" if name == "row" else "right", no_wrap=True)
    for key, row in found.items():
        ratios = row.ratios
        low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        table.add_row(
            key,
            f"{median(ratios):.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{min(ratios):.3f} to {max(ratios):.3f}",
            _parts(row.after),
            _parts(row.before),
            str(len(ratios)),
        )
    console.print(table)


def _parts(sessions: list[Cpu]) -> str:
    whole = median(cpu.total for cpu in sessions)
    parts = (median(part) for part in zip(*sessions, strict=True))
    return f"{whole:.1f} (" + " + ".join(f"{part:.1f}" for part in parts) + ")"


def _save(found: dict[str, Compared], before: str, after: str, path: Path) -> None:
    rows = {
        key: {"ratio": median(row.ratios), "ratios": row.ratios, **msgspec.to_builtins(row)}
        for key, row in found.items()
    }
    report = {"before": before, "after": after, "unit": "µs of CPU per event", "rows": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.pairs", description=__doc__)
    parser.add_argument(
        "--base",
        required=True,
        metavar="COMMIT",
        help=f"the commit to compare with; {ITSELF}: this checkout itself, which shows the noise",
    )
    parser.add_argument(
        "--after", metavar="COMMIT", help="the commit to measure, instead of this checkout"
    )
    parser.add_argument(
        "--rows",
        type=_keys,
        default=list(ROWS),
        metavar="ROW[,ROW]",
        help=f"measure these rows only: {', '.join(ROWS)}",
    )
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"number of pairs; {PAIRS}")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply all amounts of work")
    parser.add_argument("--at-most", type=float, help="exit 1 if a row's ratio is larger")
    parser.add_argument("--output", type=Path, default=RESULTS, help="file for the JSON")
    return parser.parse_args(argv)


def _keys(text: str) -> list[str]:
    keys = text.split(",")
    unknown = sorted(set(keys) - set(ROWS))
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown row {', '.join(unknown)}; the rows are: {', '.join(ROWS)}"
        )
    return keys


if __name__ == "__main__":
    sys.exit(main())
