"""The generic cell rate algorithm: pure rules on integers, without a clock of its own.

ITU-T I.371, annex A, in its form of virtual scheduling. All that is kept of the past is one time, the
theoretical arrival time (TAT), when the next admission would come if they came evenly. An
admission moves it by one interval; one that would come more than the tolerance before it is
refused, and changes nothing. Times are integers in nanoseconds of any clock that all calls share.

In any time ``t`` at most ``burst + t / interval`` are admitted. A clock that goes back admits fewer
until it has caught up, never more.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

SECOND_NS: Final = 1_000_000_000
MINUTE_S: Final = 60
HOUR_S: Final = 3_600


class Rate:
    """``count`` admissions in ``window_s`` seconds, ``burst`` of them at once."""

    def __init__(self, count: int, window_s: int, burst: int) -> None:
        assert count > 0, "no admission at all is no rate"
        assert burst > 0, "one must be admitted after a long pause"
        self.count = count
        self.window_s = window_s
        self.burst = burst

    @cached_property
    def interval_ns(self) -> int:
        """The nanoseconds between two admissions, rounded up: never more than ``count`` fit."""
        return -(-self.window_s * SECOND_NS // self.count)

    @cached_property
    def tolerance_ns(self) -> int:
        """How many nanoseconds before its TAT an admission may come."""
        return (self.burst - 1) * self.interval_ns


def steady(count: int, window_s: int = MINUTE_S) -> Rate:
    """Return a rate whose burst is what it admits in one second, rounded up."""
    return Rate(count, window_s, -(-count // window_s))


def whole(count: int, window_s: int = MINUTE_S) -> Rate:
    """Return a rate of which all may be used at once, after a pause of its window."""
    return Rate(count, window_s, count)


def wait_ns(tat_ns: int, now_ns: int, rate: Rate) -> int:
    """Return how long an admission must wait; 0: it is admitted now."""
    return max(0, tat_ns - now_ns - rate.tolerance_ns)


def moved(tat_ns: int, now_ns: int, rate: Rate) -> int:
    """Return the TAT after an admission."""
    return max(tat_ns, now_ns) + rate.interval_ns
