"""Where a look for security events that no entry seals begins."""

from __future__ import annotations

from server.trails.own.sealing import FROM_THE_START, SETTLED, LookedThrough

SETTLED_S = SETTLED.total_seconds()


class Looks:
    """Looks at times that the test says."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.through = LookedThrough(lambda: self.now_s)

    def at(self, seconds: float, newest: int, waiting: int | None = None) -> int:
        """Look at a time; return behind which number the next look begins."""
        self.now_s = seconds
        self.through.looked(newest, newest + 1 if waiting is None else waiting)
        return self.through.after_id


def test_an_event_that_is_committed_late_is_seen() -> None:
    looks = Looks()
    assert looks.at(0, 100) == 0
    assert looks.at(SETTLED_S - 1, 150) == 0
    assert looks.at(SETTLED_S, 160, waiting=90) == 89, "90 was given before, and committed now"
    assert looks.at(SETTLED_S + 20, 160) == 100


def test_what_waits_is_looked_at_again() -> None:
    looks = Looks()
    after = 0
    for seconds in range(0, int(4 * SETTLED_S), 20):
        after = looks.at(seconds, 1_000, waiting=7)
    assert after == 6
    assert looks.at(5 * SETTLED_S, 1_000) == 1_000


def test_once_an_hour_all_events_are_looked_at() -> None:
    looks = Looks()
    hour = FROM_THE_START.total_seconds()
    assert looks.at(0, 50) == 0
    assert looks.at(SETTLED_S, 50) == 50
    assert looks.at(hour + 1, 50) == 0
    assert looks.at(hour + 21, 50) == 50
