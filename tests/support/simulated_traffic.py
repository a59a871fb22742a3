"""Simulated traffic: minute counts of an org, its keys and addresses over weeks, and what is judged odd.

Load has a daily and a weekly rhythm with more spread than independent events have. Deployments leave
gaps and bursts, a holiday little load.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from server.threats.traffic.anomalies import (
    DAY_MINUTES,
    GROWTH_WEEKS,
    HOUR_MINUTES,
    NEAR_MINUTES,
    WARM_UP_MINUTES,
    WEEK_DAYS,
    AnomalyRules,
    Oddity,
    are_notable,
    hour_oddity,
    odd_day,
    odd_minutes,
    rise,
)

DAYS: Final = 30
HOLIDAY: Final = 17
RULES: Final = AnomalyRules()
SHARES: Final = {"org": 1.0, "key a": 0.6, "key b": 0.3, "address a": 0.5, "address b": 0.1}
"""The share of the org's requests that its keys and addresses have."""
WEEKEND: Final = (5, 6)


class Alarm(NamedTuple):
    """A count of somebody that was found odd at a minute."""

    minute: int
    subject: str
    what: str
    oddity: Oddity


class SimulatedTraffic:
    """The counts of each minute, by subject and count: ``counts[subject, "requests"][minute]``."""

    def __init__(self, seed: int, peak: float = 240.0, days: int = DAYS) -> None:
        self.random = random.Random(seed)
        self.minutes = days * DAY_MINUTES
        self.counts: dict[tuple[str, str], list[int]] = {}
        load = [self._load(minute, peak) for minute in range(self.minutes)]
        failing = self._deploy(load)
        for subject, share in SHARES.items():
            requests = [self._drawn(share * rate) for rate in load]
            self.counts[subject, "requests"] = requests
            self.counts[subject, "refusals"] = [self._drawn(0.4 * share) for _ in requests]
            self.counts[subject, "failures"] = [
                self._drawn(share * rate * (0.01 + failing.get(minute, 0.0)))
                for minute, rate in enumerate(load)
            ]
        self._mistyped_keys()

    def _load(self, minute: int, peak: float) -> float:
        day, at = divmod(minute, DAY_MINUTES)
        rhythm = 0.15 + 0.85 * math.pow(max(0.0, math.sin(math.pi * (at / 720 - 0.5))), 1.5)
        if day % WEEK_DAYS in WEEKEND or day == HOLIDAY:
            rhythm *= 0.3
        # More spread than Poisson has, and a nightly job at about the same time.
        job = peak * 2.5 if 125 <= at < 131 else 0.0
        return peak * rhythm * self.random.gammavariate(25, 1 / 25) + job

    def _drawn(self, rate: float) -> int:
        """A number of independent events."""
        if rate > 50:
            return max(0, round(self.random.gauss(rate, math.sqrt(rate))))
        limit, product, count = math.exp(-rate), self.random.random(), 0
        while product > limit:
            product *= self.random.random()
            count += 1
        return count

    def _deploy(self, load: list[float]) -> dict[int, float]:
        """Let deployments stop the load for a while; what waits comes afterwards, some of it fails."""
        failing = {}
        for day in range(self.minutes // DAY_MINUTES):
            if self.random.random() > 0.5:
                continue
            at = day * DAY_MINUTES + self.random.randrange(9 * 60, 18 * 60)
            gap, burst = self.random.randrange(1, 4), self.random.randrange(1, 4)
            for minute in range(at, at + gap):
                load[minute] *= 0.05
            for minute in range(at + gap, at + gap + burst):
                load[minute] *= self.random.uniform(1.3, 2.2)
                failing[minute] = self.random.uniform(0.0, 0.08)
        return failing

    def _mistyped_keys(self) -> None:
        """Somebody tries a wrong key now and then, by a program that gives up."""
        for _ in range(self.minutes // DAY_MINUTES * 3):
            at = self.random.randrange(self.minutes)
            for subject in ("org", "address b"):
                self.counts[subject, "refusals"][at] += 25

    def add(self, subject: str, count: str, minute: int, factor: float, lasts: int) -> None:
        """Multiply a count for some minutes."""
        counts = self.counts[subject, count]
        for at in range(minute, minute + lasts):
            counts[at] = round(counts[at] * factor)

    def put(self, subject: str, count: str, minute: int, number: int, lasts: int) -> None:
        """Add a number to a count in each of some minutes."""
        for at in range(minute, minute + lasts):
            self.counts[subject, count][at] += number

    def alarms(self, begin: int = 0, end: int | None = None) -> Iterator[Alarm]:
        """Judge each minute as a server does, and find the first ones of what lasts."""
        for (subject, count), counts in self.counts.items():
            told = -DAY_MINUTES
            for minute in range(max(begin, WARM_UP_MINUTES), end or self.minutes):
                pair = counts[minute - 1], counts[minute]
                hour = counts[minute - 61 : minute - 1]
                if hour_oddity(pair, hour, RULES) < RULES.deviations:
                    continue
                requests = self.counts[subject, "requests"]
                if count == "failures" and not are_notable(
                    pair, (requests[minute - 1], requests[minute])
                ):
                    continue
                oddity = odd_minutes(pair, hour, self.rises(counts, minute), RULES)
                if oddity is not None and minute - told >= 60:
                    told = minute
                    yield Alarm(minute, subject, count, oddity)

    @staticmethod
    def rises(counts: list[int], minute: int) -> list[float]:
        """The largest rise around the same time of each of the days before."""
        known = min(WEEK_DAYS, minute // DAY_MINUTES)
        times = [minute - DAY_MINUTES * day for day in range(1, known + 1)]
        return [
            rise(
                max(counts[max(0, at - NEAR_MINUTES) : at + NEAR_MINUTES + 1]),
                counts[max(0, at - NEAR_MINUTES - HOUR_MINUTES) : max(0, at - NEAR_MINUTES)],
            )
            for at in times
        ]

    def growing_days(self) -> Iterator[Alarm]:
        """Judge each day."""
        for (subject, count), counts in self.counts.items():
            totals = [
                sum(counts[at : at + DAY_MINUTES]) for at in range(0, self.minutes, DAY_MINUTES)
            ]
            for day, total in enumerate(totals):
                before = [
                    totals[day - 7 * week] for week in range(1, GROWTH_WEEKS + 1) if day >= 7 * week
                ]
                oddity = odd_day(total, before, RULES)
                if oddity is not None:
                    yield Alarm(day * DAY_MINUTES, subject, count, oddity)
