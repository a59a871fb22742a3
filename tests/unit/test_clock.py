"""The judge of the wall clock: any sequence of readings, slow clocks, leaps, and the end of leaps."""

from __future__ import annotations

import time
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.clock import (
    GAP_US,
    RETRY_MAX_S,
    SECOND_US,
    SLEW_PPM,
    ClockReading,
    Tolerance,
    WallClock,
    read_clocks,
)
from ledger.errors import ClockUnsteady

TOLERANCE = Tolerance(apart_us=5 * SECOND_US, hold_us=300 * SECOND_US)
START_US = 1_780_000_000 * SECOND_US
DAY_US = 86_400 * SECOND_US


class Clocks:
    """Two clocks that a test sets; the steady clock only advances."""

    def __init__(self) -> None:
        self.off_us = 0.0
        self.steady_us = 77 * SECOND_US

    def __call__(self) -> ClockReading:
        return ClockReading(START_US + self.steady_us + int(self.off_us), self.steady_us)

    def pass_us(self, us: int, slew_ppm: float = 0) -> None:
        self.steady_us += us
        self.off_us += us * slew_ppm / 1_000_000


def made(clocks: Clocks) -> WallClock:
    return WallClock(TOLERANCE, read=clocks)


def given_out(clock: WallClock) -> bool:
    try:
        clock()
    except ClockUnsteady:
        return False
    return True


STEPS = st.lists(
    st.tuples(
        st.integers(0, GAP_US),  # time passes
        st.one_of(st.just(0), st.integers(-800 * DAY_US, 800 * DAY_US)),  # the clock is set by
        st.booleans(),  # an append reads the clock, or only the watch does
    ),
    max_size=60,
)


@given(STEPS)
def test_no_disagreeing_time_is_given_out(steps: list[tuple[int, int, bool]]) -> None:
    clocks = Clocks()
    clock = made(clocks)
    trusted, steady_since, last = 0.0, clocks.steady_us, 0.0
    for passes, leap, asks in steps:
        clocks.pass_us(passes)
        clocks.off_us += leap
        if abs(clocks.off_us - last) > TOLERANCE.apart_us:
            steady_since = clocks.steady_us
        last = clocks.off_us
        right = abs(clocks.off_us - trusted) <= 2 * TOLERANCE.apart_us
        waited = clocks.steady_us - steady_since >= TOLERANCE.hold_us
        if not asks:
            clock.check()
        elif given_out(clock):
            assert right or waited
            trusted = clocks.off_us
        if clock.leap is None and waited:
            trusted = clocks.off_us


@given(STEPS, st.lists(st.integers(SECOND_US // 2, GAP_US), min_size=1, max_size=8))
def test_a_clock_that_is_steady_is_believed_in_the_end(
    steps: list[tuple[int, int, bool]], passing: list[int]
) -> None:
    clocks = Clocks()
    clock = made(clocks)
    for passes, leap, _ in steps:
        clocks.pass_us(passes)
        clocks.off_us += leap
        clock.check()
    began = clocks.steady_us
    for passes in cycle(passing):
        clocks.pass_us(passes)
        clock.check()
        if clocks.steady_us - began >= TOLERANCE.hold_us:
            break
    assert given_out(clock)


@given(
    st.floats(-SLEW_PPM / 2, SLEW_PPM / 2),
    st.lists(st.integers(1, 3_600 * SECOND_US), min_size=1, max_size=200),
)
def test_a_slow_clock_never_trips(slew_ppm: float, passing: list[int]) -> None:
    clocks = Clocks()
    clock = made(clocks)
    for passes in passing:
        clocks.pass_us(passes, slew_ppm)
        clock()


@pytest.mark.parametrize("slew_ppm", [-500, 500])
@pytest.mark.parametrize("look_us", [250, 1_000, 400_000, SECOND_US])
def test_a_slow_clock_is_followed_however_often_it_is_read(slew_ppm: int, look_us: int) -> None:
    clocks = Clocks()
    clock = made(clocks)
    clocks.pass_us(SECOND_US)
    for _ in range(2_000):
        clocks.pass_us(look_us, slew_ppm)
        clock.check()
    assert clock.boot.trusted_us == pytest.approx(
        clocks().difference_us, abs=2 * SECOND_US * 500 / 1_000_000 + look_us / 1_000
    )


@pytest.mark.parametrize("days", [-400, 400])
def test_a_leap_holds_until_the_clock_is_back(days: int) -> None:
    clocks = Clocks()
    clock = made(clocks)
    clock()
    clocks.pass_us(SECOND_US)
    clocks.off_us = days * DAY_US
    with pytest.raises(ClockUnsteady) as caught:
        clock()
    assert 1 <= caught.value.retry_after <= RETRY_MAX_S
    assert ("34,560,000.0 s ahead of" if days > 0 else "34,560,000.0 s behind") in str(caught.value)
    assert clock.ended() == []
    clocks.pass_us(2 * SECOND_US)
    clocks.off_us = 0
    assert clock() == clocks().wall_us
    (ended,) = clock.ended()
    assert ended.back
    assert ended.lasted_us == 2 * SECOND_US
    assert ended.leap.off_us == days * DAY_US
    assert clock.ended() == []


def test_a_leap_is_believed_when_it_was_steady_and_not_earlier() -> None:
    clocks = Clocks()
    clock = made(clocks)
    clocks.off_us = 30 * SECOND_US
    for _ in range(300):
        assert not given_out(clock)
        clocks.pass_us(SECOND_US)
    assert given_out(clock)
    (ended,) = clock.ended()
    assert not ended.back
    clocks.off_us = 0  # right again, which is the next leap
    assert not given_out(clock)


def test_time_without_readings_is_not_steady() -> None:
    clocks = Clocks()
    clock = made(clocks)
    clocks.off_us = DAY_US
    assert not given_out(clock)
    clocks.pass_us(3 * DAY_US)  # the machine slept
    assert not given_out(clock)


def test_a_machine_that_slept_has_not_leapt() -> None:
    clocks = Clocks()
    clock = made(clocks)
    clocks.pass_us(30 * DAY_US)
    assert given_out(clock)


def test_steps_that_add_up_are_a_leap() -> None:
    clocks = Clocks()
    clock = made(clocks)
    for expected in (True, False):
        clocks.pass_us(60 * SECOND_US)
        clocks.off_us += 3 * SECOND_US
        assert given_out(clock) is expected


def test_a_process_stopped_between_two_readings_saw_no_leap() -> None:
    clocks = Clocks()
    stopped_us = [0]

    def read() -> ClockReading:
        reading = clocks()
        if stopped_us[0]:
            clocks.pass_us(stopped_us[0])
            stopped_us[0] = 0
            return ClockReading(clocks().wall_us, reading.steady_us)
        return reading

    clock = WallClock(TOLERANCE, read=read)
    stopped_us[0] = 60 * SECOND_US
    clock.check()
    assert clock.leap is None


def test_the_database_s_clock_is_compared_within_the_query_s_duration() -> None:
    clocks = Clocks()
    clock = made(clocks)
    asked = clocks()
    clocks.pass_us(20 * SECOND_US)  # a slow answer: the clock was read somewhere in between
    clock.compare(asked.wall_us + 7 * SECOND_US, asked, clocks())
    assert given_out(clock)
    clock.compare(clocks().wall_us - 6 * SECOND_US, clocks(), clocks())
    with pytest.raises(ClockUnsteady, match=r"6\.0 s ahead of the database's clock"):
        clock()
    clock.compare(clocks().wall_us - 4 * SECOND_US, clocks(), clocks())
    assert given_out(clock)


def test_a_leap_against_both_is_held_once() -> None:
    clocks = Clocks()
    clock = made(clocks)
    clocks.off_us = DAY_US
    for _ in range(300):
        assert not given_out(clock)
        reading = clocks()
        clock.compare(reading.wall_us - DAY_US, reading, reading)
        clocks.pass_us(SECOND_US)
    reading = clocks()
    clock.compare(reading.wall_us - DAY_US, reading, reading)
    assert given_out(clock)
    assert [ended.back for ended in clock.ended()] == [False]


def test_a_process_started_during_a_leap_knows_it_from_the_note() -> None:
    clocks = Clocks()
    noted = clocks().difference_us
    clocks.off_us = 400 * DAY_US
    clock = WallClock(TOLERANCE, boot_trusted_us=noted, read=clocks)
    assert not given_out(clock)
    clocks.off_us = 0
    assert given_out(clock)


def test_the_machine_s_own_clocks_agree() -> None:
    clock = WallClock()
    assert abs(clock() - time.time_ns() // 1_000) < 60 * SECOND_US
    assert abs(read_clocks().steady_us - time.clock_gettime(time.CLOCK_BOOTTIME) * SECOND_US) < (
        60 * SECOND_US
    )
