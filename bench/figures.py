"""Figures: the content of the table's rows, its report and its display."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final, Literal

import msgspec
from rich.console import Console
from rich.table import Table

PIPED_COLUMNS: Final = 120
RESULTS: Final = Path(__file__).parent / "results" / "latest.json"


class Row(msgspec.Struct, frozen=True):
    """One row of the table: its key, the two compared sides, and the target."""

    key: str
    work: str
    against: str
    target: float
    bound: Literal["at least", "at most"] = "at least"


class Figure(msgspec.Struct, kw_only=True):
    """A row's figures, medians over the runs.

    The target applies to ``ratio`` (``measured`` over ``baseline``) or to
    ``value``. ``runs`` counts the turns of each side; ``measured_runs`` and
    ``baseline_runs`` are their figures in order.
    """

    ratio: float | None = None
    value: float | None = None
    unit: str
    measured: float
    baseline: float
    runs: int
    measured_runs: list[float]
    baseline_runs: list[float]
    target: float = 0.0
    met: bool = False
    extra: dict[str, float] = {}


class Report(msgspec.Struct):
    """The content of `bench/results/latest.json`."""

    cores: int
    memory_gib: float
    quick: bool
    scale: float
    rows: dict[str, Figure]


def in_turns(
    measure: Callable[[], float], baseline: Callable[[], float], runs: int
) -> tuple[list[float], list[float]]:
    """Measure both sides in turns (A B A B …), so that drift and noise affect both equally."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(runs):
        theirs.append(baseline())
        ours.append(measure())
    return ours, theirs


def ratio(
    unit: str, ours: Sequence[float], theirs: Sequence[float], extra: dict[str, float] | None = None
) -> Figure:
    """Return a figure whose target applies to the ratio of the two medians."""
    return Figure(
        ratio=round(median(ours) / median(theirs), 3),
        unit=unit,
        measured=_round(median(ours)),
        baseline=_round(median(theirs)),
        runs=len(ours),
        measured_runs=[_round(figure) for figure in ours],
        baseline_runs=[_round(figure) for figure in theirs],
        extra=extra or {},
    )


def value(
    unit: str, ours: Sequence[float], theirs: Sequence[float], extra: dict[str, float] | None = None
) -> Figure:
    """Return a figure whose target applies to the measured side."""
    figure = ratio(unit, ours, theirs, extra)
    figure.ratio, figure.value = None, figure.measured
    return figure


def judge(row: Row, figure: Figure) -> Figure:
    """Compare a figure with its row's target, and store the result in it."""
    result = figure.ratio if figure.ratio is not None else figure.value
    assert result is not None
    figure.target = row.target
    figure.met = result >= row.target if row.bound == "at least" else result <= row.target
    return figure


def report(rows: dict[str, Figure], *, quick: bool, scale: float) -> Report:
    """Return the report of this run; it describes the machine by cores and memory only."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Report(os.cpu_count() or 1, round(memory, 1), quick, scale, rows)


def save(report: Report, path: Path = RESULTS) -> None:
    """Write the report, with its rows at the top level under their keys."""
    document = msgspec.to_builtins(report)
    rows = document.pop("rows")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document | rows)) + b"\n")


def show(table: Sequence[Row], report: Report) -> None:
    """Print the table; at a fixed width if the output is not a terminal."""
    console = Console() if sys.stdout.isatty() else Console(width=PIPED_COLUMNS)
    title = f"{report.cores} cores, {report.memory_gib:.0f} GiB" + (
        ", quick" if report.quick else ""
    )
    shown = Table(title=title, title_justify="left")
    for name in ("key", "result", "target", "measured", "against", "unit", "runs", ""):
        numeric = name in ("result", "target", "measured", "against", "runs")
        shown.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in table:
        figure = report.rows.get(row.key)
        if figure is not None:
            shown.add_row(*_cells(row, figure))
    console.print(shown)


def _cells(row: Row, figure: Figure) -> list[str]:
    result = figure.ratio if figure.ratio is not None else figure.value
    sign = "≥" if row.bound == "at least" else "≤"
    return [
        row.key,
        f"{result:,.2f}",
        f"{sign} {row.target:g}",
        f"{figure.measured:,g}",
        f"{figure.baseline:,g}",
        figure.unit,
        str(figure.runs),
        "[green]met[/]" if figure.met else f"[red]{_MISSED[row.bound]}[/]",
    ]


_MISSED: Final = {"at least": "below target", "at most": "above target"}


def _round(figure: float) -> float:
    return round(figure, 3) if abs(figure) < 100 else float(round(figure))
