"""The rules of odd traffic at their borders."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.threats.traffic.anomalies import (
    DAY_SHARE,
    MINUTE_SHARE,
    AnomalyRules,
    Oddity,
    are_notable,
    hour_oddity,
    median,
    odd_day,
    odd_minutes,
    odd_stranger,
    rise,
    usual_range,
)

RULES = AnomalyRules()
QUIET_WEEK = [0] * 7
Numbers = st.lists(st.integers(0, 10**9), max_size=60)


def minutes(
    pair: tuple[int, int], hour: Sequence[int] = (), rises: Sequence[float] = QUIET_WEEK
) -> Oddity | None:
    return odd_minutes(pair, hour, rises, RULES)


@pytest.mark.parametrize(
    ("pair", "odd"), [((30, 30), True), ((29, 500), False), ((500, 29), False), ((0, 0), False)]
)
def test_both_minutes_need_thirty_events(pair: tuple[int, int], odd: bool) -> None:
    assert (minutes(pair) is not None) is odd


def test_a_constant_load_has_no_deviation_of_zero() -> None:
    hour = [100] * 60
    assert minutes((110, 110), hour) is None
    assert minutes((299, 299), hour) is None
    found = minutes((301, 301), hour)
    assert found is not None
    assert found.usual == (0, 301)


def test_a_wide_spread_makes_less_odd() -> None:
    hour = [0, 400] * 30
    assert usual_range(hour, MINUTE_SHARE).deviation == pytest.approx(1.4826 * 200)
    assert minutes((1_500, 1_500), hour) is None
    assert minutes((2_000, 2_000), hour) is not None


def test_what_rises_at_the_same_time_on_other_days_is_not_odd() -> None:
    nightly = [1_000, 900, 1_100, 0, 1_000, 950, 1_000]
    assert minutes((1_000, 1_000), [], nightly) is None
    assert minutes((1_390, 1_390), [], nightly) is None
    assert minutes((1_410, 1_410), [], nightly) is not None
    once = [1_000, 0, 0, 0, 0, 0, 0]
    assert minutes((1_000, 1_000), [], once) is not None


def test_a_rise_is_measured_from_the_hour_before() -> None:
    assert rise(100, [40] * 60) == 60
    assert rise(100, [40] * 29) == 100
    assert rise(10, [40] * 60) == 0


def test_minutes_that_are_missing_count_as_quiet_ones() -> None:
    assert minutes((100, 100), [100] * 29) is not None
    assert minutes((100, 100), [100] * 31) is None


def test_an_anomaly_says_what_was_seen_and_what_is_usual() -> None:
    found = minutes((700, 900), [90, 100, 110] * 20, [20] * 7)
    assert found is not None
    assert found.seen == (700, 900)
    assert found.usual == (0, 301)
    assert found.deviations == pytest.approx((700 - 100) / (100 / 3))


@pytest.mark.parametrize(("deviations", "score"), [(6.0, 75), (6.9, 75), (16.0, 85), (999.0, 100)])
def test_the_score_of_an_anomaly_is_75_or_more(deviations: float, score: int) -> None:
    assert Oddity((1, 1), (0, 1), deviations).score == score


def test_failures_are_notable_from_a_tenth_of_the_requests_on() -> None:
    assert are_notable((100, 100), (1_000, 1_000))
    assert not are_notable((100, 99), (1_000, 1_000))
    assert are_notable((30, 30), (0, 0))


def test_the_settings_move_the_borders() -> None:
    assert odd_minutes((60, 60), [], QUIET_WEEK, AnomalyRules(100.0, 10)) is None
    assert odd_minutes((101, 101), [], QUIET_WEEK, AnomalyRules(100.0, 10)) is not None
    assert odd_minutes((29, 29), [], QUIET_WEEK, AnomalyRules(6.0, 10)) is not None


def test_a_stranger_is_odd_without_any_history() -> None:
    assert odd_stranger((30, 30), RULES) is not None
    assert odd_stranger((30, 29), RULES) is None


@pytest.mark.parametrize(
    ("count", "weeks", "odd"),
    [
        (20_000, [10_000] * 4, True),
        (19_000, [10_000] * 4, False),
        (20_000, [10_000] * 2, False),
        (20_000, [10_000, 9_000, 11_000], True),
        (20_000, [10_000, 2_000, 11_000, 20_000], False),
        (1_799, [0] * 4, False),
        (1_800, [0] * 4, True),
    ],
)
def test_a_day_is_judged_by_three_weeks_or_more(count: int, weeks: list[int], odd: bool) -> None:
    assert (odd_day(count, weeks, RULES) is not None) is odd


@given(Numbers)
def test_the_median_is_that_of_the_statistics(numbers: list[int]) -> None:
    ordered = sorted(numbers)
    below = sum(number < median(ordered) for number in numbers)
    above = sum(number > median(ordered) for number in numbers)
    assert below <= len(numbers) / 2 >= above


@given(st.integers(0, 10**6), Numbers)
def test_the_quick_look_at_the_hour_agrees_with_the_whole_one(seen: int, hour: list[int]) -> None:
    quick = hour_oddity((seen, seen), hour, RULES)
    padded = [0] * (60 - len(hour)) + hour
    whole = usual_range(padded, MINUTE_SHARE).oddity(seen)
    if seen >= RULES.least:
        assert (quick >= RULES.deviations) == (whole >= RULES.deviations)
    else:
        assert quick == -1


@given(Numbers, st.sampled_from([MINUTE_SHARE, DAY_SHARE]))
def test_no_deviation_is_zero_and_the_usual_is_never_odd(numbers: list[int], share: float) -> None:
    usual = usual_range(numbers, share)
    assert usual.deviation >= 1
    least, greatest = usual.bounds(6)
    assert 0 <= least <= usual.median <= greatest
