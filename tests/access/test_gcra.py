"""GCRA as a pure rule: what it admits is bounded in any window, whatever the clock does."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.access.limits.gcra import SECOND_NS, Rate, moved, steady, wait_ns, whole

RATES = st.builds(
    Rate,
    st.integers(1, 10_000_000),
    st.sampled_from([1, 60, 3_600]),
    st.integers(1, 1_000),
)
STEPS = st.lists(st.integers(0, 5 * SECOND_NS), max_size=200)


def admitted(rate: Rate, times: Iterable[int]) -> list[int]:
    """The times at which a request was admitted, of one request at each time."""
    tat_ns, found = 0, []
    for now_ns in times:
        if wait_ns(tat_ns, now_ns, rate) == 0:
            tat_ns = moved(tat_ns, now_ns, rate)
            found.append(now_ns)
    return found


@given(RATES, STEPS)
def test_no_window_admits_more_than_the_burst_and_what_the_rate_adds(
    rate: Rate, steps: list[int]
) -> None:
    found = admitted(rate, accumulate(steps))
    for first, begun in enumerate(found):
        for count, at in enumerate(found[first:], 1):
            assert (count - rate.burst) * rate.window_s * SECOND_NS <= (at - begun) * rate.count


@given(RATES, st.lists(st.integers(-3_600 * SECOND_NS, 3_600 * SECOND_NS), max_size=100))
def test_a_clock_that_goes_back_admits_no_more(rate: Rate, steps: list[int]) -> None:
    times = list(accumulate(steps, initial=0))
    furthest = max(times) - min(times)
    count = len(admitted(rate, times))
    assert (count - rate.burst) * rate.window_s * SECOND_NS <= furthest * rate.count


@given(RATES, st.integers(0, 10**18), st.integers(0, 10**18))
def test_who_waits_as_long_as_told_is_admitted_and_no_earlier(
    rate: Rate, tat_ns: int, now_ns: int
) -> None:
    wait = wait_ns(tat_ns, now_ns, rate)
    assert wait_ns(tat_ns, now_ns + wait, rate) == 0
    assert wait == 0 or wait_ns(tat_ns, now_ns + wait - 1, rate) == 1


@given(RATES, st.lists(st.integers(0, 10**12), min_size=1, max_size=50))
def test_a_refusal_uses_nothing(rate: Rate, times: list[int]) -> None:
    """Requests that are refused, sent again and again, delay no admission."""
    times.sort()
    once = admitted(rate, times)
    often = admitted(rate, [at for at in times for _ in range(3)])
    assert len(often) >= len(once)
    (last,) = times[-1:]
    evenly = admitted(rate, [last + n * rate.interval_ns for n in range(20)])
    assert len(evenly) == 20


@pytest.mark.parametrize(
    ("count", "burst"), [(1, 1), (59, 1), (60, 1), (61, 2), (100, 2), (600, 10)]
)
def test_the_burst_of_a_steady_rate_is_one_second_of_it(count: int, burst: int) -> None:
    assert steady(count).burst == burst


def test_a_whole_rate_can_be_used_at_once_and_then_evenly() -> None:
    rate = whole(100)
    times = [0] * 101 + [600_000_000] * 2
    assert admitted(rate, times) == [0] * 100 + [600_000_000]
