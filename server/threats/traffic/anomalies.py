"""Judges whether counts of requests are far from what is usual: pure rules on numbers.

Two consecutive minutes are odd if each has many more requests, refusals or failures than the hour
before, and rises more above it than at the same time of the seven days before. A day grows if it has many more than
the same weekday of the four weeks before. Far is measured in robust deviations: 1.4826 times the
median of the distances from the median, which is the standard deviation of a normal distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Final, NamedTuple

HOUR_MINUTES: Final = 60
DAY_MINUTES: Final = 1_440
WEEK_DAYS: Final = 7
NEAR_MINUTES: Final = 10
"""The same time of another day is so many minutes on either side of it."""
WARM_UP_MINUTES: Final = DAY_MINUTES
"""How long somebody must be known before his minutes are judged."""
GROWTH_WEEKS: Final = 4
LEAST_WEEKS: Final = 3
"""So many of the four weeks must be known before a day is judged."""
NORMAL: Final = 1.4826
MINUTE_SHARE: Final = 1 / 3
"""A deviation of a minute is at least this share of the median: three times the usual is 6 of them.

Bursts after a restart are up to twice the usual.
"""
SAME_TIME_SHARE: Final = 1 / 10
"""And of a rise at the same time of other days, which are the largest ones around that time."""
SAME_TIME_PART: Final = 2 / 3
"""The days before only excuse what they have too: two thirds as many deviations above them are odd."""
LEAST_FAILING: Final = 10
"""Failures are odd only if they are at least one of so many requests."""
DAY_SHARE: Final = 1 / 6
"""And of a day: twice the usual is 6 of them."""
ANOMALY_SCORE: Final = 75
MAX_SCORE: Final = 100


class AnomalyRules(NamedTuple):
    """From how many deviations on, and how many events a minute, something is odd."""

    deviations: float = 6.0
    least: int = 30


class UsualRange(NamedTuple):
    """What is usual: the median, and one robust deviation."""

    median: float
    deviation: float

    def oddity(self, count: float) -> float:
        """Return how many deviations a count is above the median."""
        return (count - self.median) / self.deviation

    def bounds(self, deviations: float) -> tuple[int, int]:
        """Return the least and the greatest count that are not odd, rounded outwards."""
        width = deviations * self.deviation
        return max(0, int(self.median - width)), int(self.median + width) + 1


class Oddity(NamedTuple):
    """A count that is odd: what was seen, what is usual, and by how many deviations it is above."""

    seen: tuple[int, ...]
    usual: tuple[int, int]
    deviations: float

    @property
    def score(self) -> int:
        """The threat score: 75, and one more for each further deviation."""
        return min(MAX_SCORE, ANOMALY_SCORE + max(0, int(self.deviations) - 6))


def median(ordered: Sequence[float]) -> float:
    """Return the median of numbers in ascending order; 0 without any."""
    middle, odd = divmod(len(ordered), 2)
    if not ordered:
        return 0.0
    return ordered[middle] if odd else (ordered[middle - 1] + ordered[middle]) / 2


def usual_range(counts: Sequence[float], share: float) -> UsualRange:
    """Return what is usual among some counts.

    A deviation is never less than that of as many independent events (Poisson: the square root), nor
    than a share of the median: so neither a constant nor an even load makes the next small change odd.
    """
    ordered = sorted(counts)
    middle = median(ordered)
    distances = sorted(abs(count - middle) for count in ordered)
    return UsualRange(middle, max(NORMAL * median(distances), least_deviation(middle, share)))


def least_deviation(middle: float, share: float) -> float:
    """Return the least deviation of counts with a median."""
    return max(1.0, sqrt(middle), share * middle)


def hour_oddity(pair: tuple[int, int], hour: Sequence[int], rules: AnomalyRules) -> float:
    """Return how odd two minutes are by the hour before them; -1 for too few events to be judged.

    ``hour`` has the counts of its minutes; minutes without any event may be missing.
    """
    seen = min(pair)
    if seen < rules.least:
        return -1.0
    padded = _padded(hour)
    middle = median(sorted(padded))
    least = (seen - middle) / least_deviation(middle, MINUTE_SHARE)
    if least < rules.deviations:
        return least  # however the counts are spread: the usual case, at half the cost
    return usual_range(padded, MINUTE_SHARE).oddity(seen)


def rise(count: int, hour: Sequence[int]) -> float:
    """Return by how much a count is above the median of the hour before it; never less than 0.

    Minutes without any event may be missing in ``hour``.
    """
    return max(0.0, count - median(sorted(_padded(hour))))


def odd_minutes(
    pair: tuple[int, int], hour: Sequence[int], rises: Sequence[float], rules: AnomalyRules
) -> Oddity | None:
    """Return whether two minutes are odd: far above the hour before, and more so than on other days.

    ``rises`` has, for each of at most seven days, the largest :func:`rise` around the same time. So
    neither the rhythm of days and weeks nor a job that runs at the same time makes minutes odd.
    """
    by_hour = hour_oddity(pair, hour, rules)
    if by_hour < rules.deviations:
        return None
    at_this_time = usual_range(rises, SAME_TIME_SHARE)
    if at_this_time.oddity(rise(min(pair), hour)) < rules.deviations * SAME_TIME_PART:
        return None
    usual = usual_range(_padded(hour), MINUTE_SHARE)
    least, greatest = usual.bounds(rules.deviations)
    risen = int(usual.median) + at_this_time.bounds(rules.deviations * SAME_TIME_PART)[1]
    return Oddity(pair, (least, max(greatest, risen)), by_hour)


def _padded(hour: Sequence[int]) -> list[int]:
    return [*[0] * (HOUR_MINUTES - len(hour)), *hour]


def are_notable(failures: tuple[int, int], requests: tuple[int, int]) -> bool:
    """Return whether failures are a notable part of the requests that were let in.

    While a server is replaced some requests fail, of a large org many; who probes fails often.
    """
    return all(one * LEAST_FAILING >= of for one, of in zip(failures, requests, strict=True))


def odd_stranger(refused: tuple[int, int], rules: AnomalyRules) -> Oddity | None:
    """Return whether an address that was never let in is refused too often, however new it is."""
    if min(refused) < rules.least:
        return None
    return Oddity(refused, (0, rules.least), rules.deviations)


def odd_day(count: int, weeks: Sequence[int], rules: AnomalyRules) -> Oddity | None:
    """Return whether a day, so far, has far more than the same weekday of the weeks before.

    Of fewer than three weeks nothing is said.
    """
    if len(weeks) < LEAST_WEEKS or count < rules.least * HOUR_MINUTES:
        return None
    usual = usual_range(weeks, DAY_SHARE)
    deviations = usual.oddity(count)
    if deviations < rules.deviations:
        return None
    return Oddity((count,), usual.bounds(rules.deviations), deviations)
