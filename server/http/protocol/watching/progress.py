"""Measures whether a connection makes progress: the rules of the watchdog.

A connection is in one phase at a time. A request head, the pause between two requests and the
unread rest of a body have a time. A body and an answer have a least rate: each has credit of some
seconds, which passes with time and is earned back by bytes. So a client may stop for as long as
its credit lasts, and may never be slower than the rate for long.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """The state of a connection in which the server waits; the value names it in messages."""

    HEAD = "no complete request head arrives"
    BODY = "a request body arrives too slowly"
    REST = "the unread rest of a request body still arrives"
    ANSWER = "the client reads its answer too slowly"
    IDLE = "no further request arrives"


class Countdown:
    """The time left in a phase that has no rate; it begins anew with each phase and occasion."""

    __slots__ = ("_left_s", "_occasion", "_phase")

    def __init__(self) -> None:
        self._phase: Phase | None = None
        self._occasion: object = None
        self._left_s = 0.0

    def expired(self, phase: Phase, occasion: object, limit_s: float, elapsed_s: float) -> bool:
        """Return whether the phase has lasted for its limit; call it once a sweep."""
        if phase is not self._phase or occasion is not self._occasion:
            self._phase, self._occasion, self._left_s = phase, occasion, limit_s
            return False
        self._left_s -= elapsed_s
        return self._left_s <= 0

    def stop(self) -> None:
        """Note that the connection is in no such phase."""
        self._phase = self._occasion = None


class Credit:
    """The seconds by which a transfer may fall behind the least rate."""

    __slots__ = ("_left_s", "_occasion", "_seen")

    def __init__(self) -> None:
        self._occasion: object = None
        self._left_s = 0.0
        self._seen = 0

    def spent(
        self, occasion: object, moved: int, most_s: float, rate: int, passed_s: float
    ) -> bool:
        """Return whether the credit is used up; call it once a sweep.

        ``moved`` counts the bytes that were ever transferred. ``passed_s`` is negative for a time
        in which nothing was to transfer.
        """
        if occasion is not self._occasion:
            self._occasion, self._left_s, self._seen = occasion, most_s, moved
            return False
        earned_s = (moved - self._seen) / rate
        self._seen = moved
        self._left_s = min(self._left_s + earned_s - passed_s, most_s)
        return self._left_s <= 0
