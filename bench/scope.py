"""The amount of work: full, quick (a tenth), or scaled down further for tests of the benchmark."""

from __future__ import annotations

from bench.stage import Stage

MIN_RUNS = 3
QUICK_RUNS = 5


class Scope:
    """The stage on which a row runs, and the amount of its work."""

    def __init__(self, stage: Stage, *, quick: bool, scale: float) -> None:
        self.stage = stage
        self.quick = quick
        self.scale = scale

    def sized(self, full: int, *, least: int = 1) -> int:
        """Return an amount of work: a tenth of the full amount when quick."""
        return max(round(full * self.scale / (10 if self.quick else 1)), least)

    def whole(self, full: int, *, least: int = 1) -> int:
        """Return an amount that belongs to the measurement, so it is the same when quick."""
        return max(round(full * self.scale), least)

    def runs(self, full: int) -> int:
        """Return the number of turns of each side: at most five when quick, three in a test."""
        if self.scale < 1:
            return MIN_RUNS
        return min(full, QUICK_RUNS) if self.quick else full
