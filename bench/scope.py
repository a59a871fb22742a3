"""How much is done: full, quick (a tenth), or scaled further down for a test of the benchmark."""

from __future__ import annotations

from bench.stage import Stage

MIN_RUNS = 3
QUICK_RUNS = 5


class Scope:
    """The stage a row runs on, and the amount of its work."""

    def __init__(self, stage: Stage, *, quick: bool, scale: float) -> None:
        self.stage = stage
        self.quick = quick
        self.scale = scale

    def sized(self, full: int, *, least: int = 1) -> int:
        """An amount of work: a tenth of the full one when quick."""
        return max(round(full * self.scale / (10 if self.quick else 1)), least)

    def whole(self, full: int, *, least: int = 1) -> int:
        """An amount that is part of what is measured, the same when quick."""
        return max(round(full * self.scale), least)

    def runs(self, full: int) -> int:
        """How many turns each side has: five at most when quick, three in a test."""
        if self.scale < 1:
            return MIN_RUNS
        return min(full, QUICK_RUNS) if self.quick else full
