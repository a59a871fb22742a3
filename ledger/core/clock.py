"""The wall clock, given out only while it agrees with the clocks beside it.

A machine's wall clock is set by others: a wrong time server, the resumption of a virtual
machine, a person. An entry that is written in such a moment keeps that time for ever, and as
time never decreases in a trail, so do all after it. So each reading is held against
CLOCK_BOOTTIME, which nobody sets and which counts on while the machine sleeps, and now and
then against the database's clock. While one disagrees, no time is given out. It is given out
again once the clock is back, or once it has been steady for so long that it is believed.

No I/O but the reading of the clocks, which a test replaces.
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
"""A clock that runs faster or slower by this much is followed: NTP slews by half of it."""
FOLLOW_EVERY_US: Final = SECOND_US
"""How often a slow clock is followed at most: its way in less time is less than a microsecond."""
GAP_US: Final = 10 * SECOND_US
"""The most that one look at the clock adds to the time for which it was steady."""
RETRY_MAX_S: Final = 10
"""A clock may be back any second: nobody is sent away for longer."""
_STEADY_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


class ClockReading(NamedTuple):
    """The wall clock (µs since the Unix epoch) and the steady one (µs since the boot)."""

    wall_us: int
    steady_us: int

    @property
    def difference_us(self) -> int:
        """What stays the same while nobody sets the wall clock."""
        return self.wall_us - self.steady_us


def read_clocks() -> ClockReading:
    """Both clocks of this machine, one right after the other."""
    return ClockReading(time.time_ns() // 1_000, steady_us())


def steady_us() -> int:
    """CLOCK_BOOTTIME; where the system has none, the monotonic clock."""
    if _STEADY_CLOCK is None:
        return time.monotonic_ns() // 1_000
    return time.clock_gettime_ns(_STEADY_CLOCK) // 1_000


class Tolerance(NamedTuple):
    """How far two clocks may be apart, and for how long a clock that leapt must be steady."""

    apart_us: int = 5 * SECOND_US
    hold_us: int = 300 * SECOND_US


@dataclass(frozen=True)
class Leap:
    """A clock that is not where it should be, since it was last there.

    ``off_us`` is by how much, ``wall_us`` what the clock said when that was noticed.
    """

    against: str
    off_us: int
    wall_us: int
    began_us: int


@dataclass(frozen=True)
class LeapEnd:
    """A leap that is over; ``back`` says whether the clock came back, or was steady for long."""

    leap: Leap
    back: bool
    lasted_us: int


class _FollowedDifference:
    """A difference of two clocks, followed as far as a slow clock can have moved it."""

    def __init__(self, value_us: int, at_us: int, apart_us: int, slew_ppm: int) -> None:
        self.value_us = value_us
        self._at_us = at_us
        self._apart_us = apart_us
        self._slew_ppm = slew_ppm

    def off_us(self, difference_us: int, at_us: int) -> int:
        """How far away a difference is; it is followed only where it is near."""
        off, elapsed = difference_us - self.value_us, at_us - self._at_us
        if elapsed < FOLLOW_EVERY_US:
            return off
        # Bounded, so that nobody can leap far after a machine slept for a month.
        way = min(elapsed * self._slew_ppm // 1_000_000, self._apart_us)
        step = max(-way, min(off, way))
        if abs(off - step) > self._apart_us:
            return off
        self.value_us += step
        self._at_us = at_us
        return off - step

    def agrees(self, difference_us: int, at_us: int) -> bool:
        """Whether a difference is near enough."""
        return abs(self.off_us(difference_us, at_us)) <= self._apart_us


class ClockDifference:
    """Judges the difference of the wall clock and one other, reading by reading.

    ``trusted_us`` is what it should be. All times are in µs, ``at_us`` on the steady clock.
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
        """How the last leap ended: the clock came back, or was steady for long."""
        self._against = against
        self._tolerance = tolerance
        self._slew_ppm = slew_ppm
        self._trusted = _FollowedDifference(trusted_us, at_us, tolerance.apart_us, slew_ppm)
        self._candidate: _FollowedDifference | None = None
        self._steady_for_us = 0
        self._seen_us = at_us

    @property
    def trusted_us(self) -> int:
        """What the difference should be."""
        return self._trusted.value_us

    @property
    def left_us(self) -> int:
        """For how long it must still be steady before it is believed."""
        return max(self._tolerance.hold_us - self._steady_for_us, 0)

    def near(self, difference_us: int) -> bool:
        """Whether the clocks agree for certain: what most readings cost."""
        apart_us = self._tolerance.apart_us
        return self.leap is None and abs(difference_us - self._trusted.value_us) <= apart_us

    def judge(self, difference_us: int, at_us: int, wall_us: int) -> bool:
        """Whether the clocks agree."""
        passed, self._seen_us = max(at_us - self._seen_us, 0), max(at_us, self._seen_us)
        off_us = self._trusted.off_us(difference_us, at_us)
        if abs(off_us) <= self._tolerance.apart_us:
            self._end(back=True)
            return True
        if self.leap is None:
            self.leap = Leap(self._against, off_us, wall_us, at_us)
        return self._believed(difference_us, at_us, passed)

    def _believed(self, difference_us: int, at_us: int, passed_us: int) -> bool:
        """Whether a clock that leapt has been steady for long enough since."""
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
        """Take the word of another process of this machine, which waited for long enough."""
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

    ``boot`` judges it against the steady clock, ``database`` against the database's, which
    :meth:`compare` is told: both must agree. Somebody must :meth:`look` about once a second.
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
        """Why no time is given out now, as it was when that began."""
        self._ended: list[LeapEnd] = []
        self._read = read
        now = read()
        self.boot = ClockDifference(
            "what passed since this machine started",
            self.tolerance,
            trusted_us=now.difference_us if boot_trusted_us is None else boot_trusted_us,
            at_us=now.steady_us,
        )
        # Not followed: two machines that drift apart slowly are far apart in the end.
        self.database = ClockDifference(
            "the database's clock",
            self.tolerance,
            slew_ppm=0,
            trusted_us=database_trusted_us,
            at_us=now.steady_us,
        )
        self.look()

    def __call__(self) -> int:
        """The time in µs since the Unix epoch. Raises ClockUnsteady."""
        now = self._read()
        if self.leap is None and self.boot.near(now.wall_us - now.steady_us):
            return now.wall_us
        now = self.look()
        if self.leap is not None:
            raise self._unsteady(self.leap)
        return now.wall_us

    def look(self) -> ClockReading:
        """Read the clocks, and judge them."""
        now = self._read()
        if not self.boot.judge(now.difference_us, now.steady_us, now.wall_us):
            # A process that was stopped between its two looks saw a leap that was none.
            now = self._read()
            self.boot.judge(now.difference_us, now.steady_us, now.wall_us)
        self._conclude(now)
        return now

    def compare(self, database_us: int, asked: ClockReading, answered: ClockReading) -> None:
        """Judge the database's clock, which was read between two readings of ours."""
        low, high = asked.wall_us - database_us, answered.wall_us - database_us
        nearest = max(min(low, high), min(self.database.trusted_us, max(low, high)))
        self.database.judge(nearest, answered.steady_us, answered.wall_us)
        self._conclude(answered)

    def trust(self, boot_us: int, database_us: int) -> None:
        """Take the word of another process of this machine, which waited for long enough."""
        now = self._read()
        self.boot.trust(boot_us, now.steady_us)
        self.database.trust(database_us, now.steady_us)

    def ended(self) -> list[LeapEnd]:
        """The leaps that ended since this was asked last."""
        found, self._ended = self._ended, []
        return found

    def _conclude(self, now: ClockReading) -> None:
        """Hold the time back, or give it out again, after what was judged."""
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
            f"appends wait until it is right, or has been steady for another {left_s} s",
            retry_after=min(max(left_s, 1), RETRY_MAX_S),
        )
