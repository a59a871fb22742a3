"""Simulated weeks: almost no false anomaly, and real ones are seen within two minutes."""

from __future__ import annotations

import pytest

from server.threats.traffic.anomalies import DAY_MINUTES, odd_stranger
from tests.support.simulated_traffic import DAYS, RULES, Alarm, SimulatedTraffic

WEEKS = DAYS / 7
TIMES = {
    "on Tuesday at noon": 22 * DAY_MINUTES + 12 * 60,
    "on Sunday at noon": 20 * DAY_MINUTES + 12 * 60,
    "on Sunday at night": 20 * DAY_MINUTES + 3 * 60,
    "on the holiday": 17 * DAY_MINUTES + 15 * 60,
}
WHEN = pytest.mark.parametrize("minute", TIMES.values(), ids=TIMES.keys())


def seen_within(traffic: SimulatedTraffic, subject: str, count: str, minute: int) -> Alarm:
    """The first alarm about a count after a minute, which must be within two minutes."""
    alarms = [
        alarm
        for alarm in traffic.alarms(minute, minute + 5)
        if (alarm.subject, alarm.what) == (subject, count)
    ]
    assert alarms, "nothing was seen"
    assert alarms[0].minute - minute < 2
    return alarms[0]


@pytest.mark.parametrize(
    "seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 30))]
)
def test_thirty_days_have_at_most_one_false_anomaly_a_week(seed: int) -> None:
    traffic = SimulatedTraffic(seed)
    alarms = list(traffic.alarms())
    assert len(alarms) <= WEEKS, alarms
    assert list(traffic.growing_days()) == []


@pytest.mark.parametrize("peak", [40.0, 2_000.0])
def test_neither_have_small_nor_large_orgs(peak: float) -> None:
    traffic = SimulatedTraffic(5, peak)
    assert len(list(traffic.alarms())) <= WEEKS


@WHEN
def test_a_tenfold_spike_is_seen_within_two_minutes(minute: int) -> None:
    traffic = SimulatedTraffic(7, peak=1_000.0)
    for subject in ("org", "key a", "address a"):
        traffic.add(subject, "requests", minute, 10, lasts=5)
    for subject in ("org", "key a", "address a"):
        alarm = seen_within(traffic, subject, "requests", minute)
        assert min(alarm.oddity.seen) > alarm.oddity.usual[1]
        assert alarm.oddity.score >= 75


def test_credential_stuffing_from_one_new_address_is_seen_at_its_second_minute() -> None:
    assert odd_stranger((29, 400), RULES) is None
    found = odd_stranger((60, 60), RULES)
    assert found is not None
    assert found.score >= 75


@WHEN
def test_credential_stuffing_from_many_addresses_is_seen_in_the_refusals_of_the_org(
    minute: int,
) -> None:
    traffic = SimulatedTraffic(8)
    traffic.put("org", "refusals", minute, 60, lasts=5)  # from 60 addresses, each once a minute
    seen_within(traffic, "org", "refusals", minute)


def test_slow_growth_is_seen_by_the_day_although_no_minute_is_odd() -> None:
    traffic = SimulatedTraffic(9)
    for day in range(20, DAYS):
        traffic.add("key b", "requests", day * DAY_MINUTES, 1 + 0.25 * (day - 19), DAY_MINUTES)
    assert not [alarm for alarm in traffic.alarms() if alarm.subject == "key b"]
    grown = list(traffic.growing_days())
    assert grown
    assert {alarm.subject for alarm in grown} == {"key b"}
