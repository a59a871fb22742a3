"""The wall clock, which returns a time only while it agrees with two other clocks.

A machine's wall clock can be set wrong by a time server, the resumption of a virtual
machine, or a person. An entry written at such a moment keeps that time for ever, and as
time never decreases in a trail, so do all later entries. So each reading is compared with
CLOCK_BOOTTIME, which can't be set and which runs on while the machine sleeps, and now and
then with the database's clock. While one of them disagrees, no time is returned. Times are
returned again once the clock is right again, or once it has been steady for the hold time and
is trusted.

There is no I/O except the reading of the clocks, which tests replace.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from ledger.errors import ClockUnsteady

SECOND_US: Final = 1_000_000
SLEW_PPM: Final = 1_000
"""The clock rate error (parts per million) that is followed as drift: NTP slews by half of it."""
FOLLOW_EVERY_US: Final = SECOND_US
"""The least time between two adjustments to drift."""
GAP_US: Final = 10 * SECOND_US
"""The most that one reading of the clock adds to the time for which it was steady."""
RETRY_MAX_S: Final = 10
"""The longest ``retry_after``: a clock may be right again at any second."""
_STEADY_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


class ClockReading(NamedTuple):
    """The wall clock (µs since the Unix epoch) and the steady clock (µs since the boot)."""

    wall_us: int
    steady_us: int

    @property
    def difference_us(self) -> int:
        """Wall time minus steady time, which is constant while the wall clock is not set."""
        return self.wall_us - self.steady_us


def read_clocks() -> ClockReading:
    """Read both clocks of this machine, one right after the other."""
    return ClockReading(wall_us(), steady_us())


def wall_us() -> int:
    """The wall clock in µs since the Unix epoch, compared with no other clock."""
    return time.time_ns() // 1_000


def steady_us() -> int:
    """CLOCK_BOOTTIME in µs; the monotonic clock on systems without it."""
    if _STEADY_CLOCK is None:
        return time.monotonic_ns() // 1_000
    return time.clock_gettime_ns(_STEADY_CLOCK) // 1_000


class Tolerance(NamedTuple):
    """How far apart two clocks may be, and how long a clock must be steady after a leap."""

    apart_us: int = 5 * SECOND_US
    hold_us: int = 300 * SECOND_US


@dataclass(frozen=True)
class Leap:
    """A wall clock that disagrees with the clock ``against``.

    ``off_us`` is by how much; ``wall_us`` and ``began_us`` are the wall and the steady time when
    that was noticed.
    """

    against: str
    off_us: int
    wall_us: int
    began_us: int


@dataclass(frozen=True)
class LeapEnd:
    """A leap that ended; ``back``: True if the clock is right again, False if it is now trusted."""

    leap: Leap
    back: bool
    lasted_us: int


class _FollowedDifference:
    """The difference of two clocks, adjusted to drift within the slew rate."""

    def __init__(self, value_us: int, at_us: int, apart_us: int, slew_ppm: int) -> None:
        self.value_us = value_us
        self._at_us = at_us
        self._apart_us = apart_us
        self._slew_ppm = slew_ppm

    def off_us(self, difference_us: int, at_us: int) -> int:
        """How far a new difference is from the followed one, which is adjusted if that is drift."""
        off, elapsed = difference_us - self.value_us, at_us - self._at_us
        if elapsed < FOLLOW_EVERY_US:
            return off
        # Bounded: after a month of sleep the drift allowance would cover a large leap.
        drift = min(elapsed * self._slew_ppm // 1_000_000, self._apart_us)
        step = max(-drift, min(off, drift))
        if abs(off - step) > self._apart_us:
            return off
        self.value_us += step
        self._at_us = at_us
        return off - step

    def agrees(self, difference_us: int, at_us: int) -> bool:
        """True if a difference is near enough to the followed one."""
        return abs(self.off_us(difference_us, at_us)) <= self._apart_us


class ClockDifference:
    """Checks the difference of the wall clock and one other clock, reading by reading.

    ``trusted_us`` is the expected difference. All times are in µs, ``at_us`` on the steady clock.
    """

    def __init__(
        self,
        against: str,
        tolerance: Tolerance,
        *,
        slew_ppm: int = SLEW_PPM,
        trusted_us: int,
        at_us: int,
    ) -> None:
        self.leap: Leap | None = None
        self.back = True
        """How the last leap ended: True if the clock is right again, False if it is now trusted."""
        self._against = against
        self._tolerance = tolerance
        self._slew_ppm = slew_ppm
        self._trusted = _FollowedDifference(trusted_us, at_us, tolerance.apart_us, slew_ppm)
        self._candidate: _FollowedDifference | None = None
        self._steady_for_us = 0
        self._seen_us = at_us

    @property
    def trusted_us(self) -> int:
        """The expected difference."""
        return self._trusted.value_us

    @property
    def left_us(self) -> int:
        """How long the difference must still be steady before it is trusted."""
        return max(self._tolerance.hold_us - self._steady_for_us, 0)

    def near(self, difference_us: int) -> bool:
        """True if the clocks agree, by a cheap check that suffices for most readings."""
        apart_us = self._tolerance.apart_us
        return self.leap is None and abs(difference_us - self._trusted.value_us) <= apart_us

    def judge(self, difference_us: int, at_us: int, wall_us: int) -> bool:
        """Check one reading; returns True if the clocks agree, or agree again."""
        passed, self._seen_us = max(at_us - self._seen_us, 0), max(at_us, self._seen_us)
        off_us = self._trusted.off_us(difference_us, at_us)
        if abs(off_us) <= self._tolerance.apart_us:
            self._end(back=True)
            return True
        if self.leap is None:
            self.leap = Leap(self._against, off_us, wall_us, at_us)
        return self._trust_if_steady(difference_us, at_us, passed)

    def _trust_if_steady(self, difference_us: int, at_us: int, passed_us: int) -> bool:
        """Trust a clock that leapt once it was steady for the hold time; returns True if so."""
        if self._candidate is None or not self._candidate.agrees(difference_us, at_us):
            self._candidate = self._followed(difference_us, at_us)
            self._steady_for_us = 0
            return False
        self._steady_for_us += min(passed_us, GAP_US)
        if self._steady_for_us < self._tolerance.hold_us:
            return False
        self._trusted = self._followed(difference_us, at_us)
        self._end(back=False)
        return True

    def trust(self, difference_us: int, at_us: int) -> None:
        """Trust a difference that another process of this machine trusts after its own wait."""
        self._trusted = self._followed(difference_us, at_us)

    def _end(self, *, back: bool) -> None:
        if self.leap is not None:
            self.back = back
        self.leap = self._candidate = None
        self._steady_for_us = 0

    def _followed(self, value_us: int, at_us: int) -> _FollowedDifference:
        return _FollowedDifference(value_us, at_us, self._tolerance.apart_us, self._slew_ppm)


class WallClock:
    """The wall clock of this process. Call it for the time in µs; raises ClockUnsteady.

    ``boot`` checks it against the steady clock, ``database`` against the database's clock, whose
    time :meth:`compare` receives; both must agree. Call :meth:`check` about once a second.
    """

    def __init__(
        self,
        tolerance: Tolerance | None = None,
        *,
        boot_trusted_us: int | None = None,
        database_trusted_us: int = 0,
        read: Callable[[], ClockReading] = read_clocks,
    ) -> None:
        self.tolerance = tolerance or Tolerance()
        self.leap: Leap | None = None
        """The leap because of which no time is returned now, as it was when it began."""
        self._ended: list[LeapEnd] = []
        self._read = read
        now = read()
        self.boot = ClockDifference(
            "the time that passed since this machine started",
            self.tolerance,
            trusted_us=now.difference_us if boot_trusted_us is None else boot_trusted_us,
            at_us=now.steady_us,
        )
        # Drift is not followed: two machines that drift apart slowly end up far apart.
        self.database = ClockDifference(
            "the database's clock",
            self.tolerance,
            slew_ppm=0,
            trusted_us=database_trusted_us,
            at_us=now.steady_us,
        )
        self.check()

    def __call__(self) -> int:
        """The time in µs since the Unix epoch. Raises ClockUnsteady."""
        now = self._read()
        if self.leap is None and self.boot.near(now.wall_us - now.steady_us):
            return now.wall_us
        now = self.check()
        if self.leap is not None:
            raise self._unsteady(self.leap)
        return now.wall_us

    def unbroken_us(self) -> int:
        """The time in µs as it was before a leap, and goes on; a leap counts once it is trusted.

        For decisions that must not change because a clock was set: it raises nothing.
        """
        return self._read().steady_us + self.boot.trusted_us

    def check(self) -> ClockReading:
        """Read the clocks and check them against each other; returns the reading."""
        now = self._read()
        if not self.boot.judge(now.difference_us, now.steady_us, now.wall_us):
            # Read again: a process that was paused between the two readings sees a false leap.
            now = self._read()
            self.boot.judge(now.difference_us, now.steady_us, now.wall_us)
        self._conclude(now)
        return now

    def compare(self, database_us: int, asked: ClockReading, answered: ClockReading) -> None:
        """Check the database's clock, which was read between two readings of this machine's."""
        low, high = asked.wall_us - database_us, answered.wall_us - database_us
        nearest = max(min(low, high), min(self.database.trusted_us, max(low, high)))
        self.database.judge(nearest, answered.steady_us, answered.wall_us)
        self._conclude(answered)

    def trust(self, boot_us: int, database_us: int) -> None:
        """Trust differences that another process of this machine trusts after its own wait."""
        now = self._read()
        self.boot.trust(boot_us, now.steady_us)
        self.database.trust(database_us, now.steady_us)

    def ended(self) -> list[LeapEnd]:
        """Return the leaps that ended since the last call."""
        found, self._ended = self._ended, []
        return found

    def _conclude(self, now: ClockReading) -> None:
        """Begin or end the leap of this clock, after a check of one of the differences."""
        differences = (self.boot, self.database)
        off = [one for one in differences if one.leap is not None]
        if off and self.leap is None:
            self.leap = off[0].leap
        elif self.leap is not None and not off:
            leap, self.leap = self.leap, None
            back = all(one.back for one in differences)
            self._ended.append(LeapEnd(leap, back, now.steady_us - leap.began_us))
            self.boot.back = self.database.back = True

    def _unsteady(self, leap: Leap) -> ClockUnsteady:
        left_s = math.ceil(
            max(one.left_us for one in (self.boot, self.database) if one.leap) / SECOND_US
        )
        return ClockUnsteady(
            f"the server's clock is {abs(leap.off_us) / SECOND_US:,.1f} s "
            f"{'ahead of' if leap.off_us > 0 else 'behind'} {leap.against}. Nothing was written: "
            f"appends wait until the clock is right, or has been steady for another {left_s} s",
            retry_after=min(max(left_s, 1), RETRY_MAX_S),
        )
