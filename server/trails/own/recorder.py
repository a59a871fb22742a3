"""Counts in memory what callers of one process do, until it is stored a few seconds later.

A request costs a few dictionary updates. Everything is bounded: what does not fit is counted as
lost, which the log and a metric say. A crash loses the counts of the seconds since they were stored
last, and nothing of any change: changes are entries of their own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeVar

MAX_PLACES: Final = 20_000
"""Distinct places (org, key, route) of one window."""
MAX_SOURCES: Final = 200
"""Distinct sources of refusals in one window and org; further ones count as :data:`OTHERS`."""
MAX_SEQS: Final = 200_000
"""Seqs of opened payloads in one window; of further ones only the number is kept."""
MAX_BUNDLES: Final = 2_000
HOUR_S: Final = 3_600
OTHERS: Final = "others"
NO_SEQ: Final = -1
P = TypeVar("P")


class ReadPlace(NamedTuple):
    """A key that reads by a route of an org."""

    org_id: int
    key: str
    route: str


class RefusedPlace(NamedTuple):
    """A source of refused requests: ``key:ID``, or a network."""

    org_id: int
    source: str
    reason: str


class VerifiedPlace(NamedTuple):
    """One verdict on a trail or an entry that a key asked for; ``checks`` are pairs of name and answer."""

    org_id: int
    key: str
    scope: str
    verdict: str
    checks: tuple[object, ...]
    fault_count: int


class MadeBundle(NamedTuple):
    """A bundle that a key asked for; ``disclosed`` are the fields that it opens."""

    org_id: int
    key: str
    first_seq: int
    last_seq: int
    entries: int
    disclosed: tuple[str, ...]


class ActTally:
    """How often something happened, and the least and greatest seq that it concerned."""

    __slots__ = ("count", "first", "last")

    def __init__(self) -> None:
        self.count, self.first, self.last = 0, NO_SEQ, NO_SEQ

    def saw(self, first: int, last: int) -> None:
        """Widen the bounds by a range of seqs."""
        self.first = first if self.first < 0 else min(self.first, first)
        self.last = max(self.last, last)


class OpenedSeqs:
    """The seqs of the payloads that a key opened; ``unlisted`` counts those that did not fit."""

    __slots__ = ("seqs", "unlisted")

    def __init__(self) -> None:
        self.seqs: set[int] = set()
        self.unlisted = 0


class Window:
    """What happened in a few seconds of one hour; times are seconds since the Unix epoch."""

    def __init__(self, now: float) -> None:
        self.since = self.until = now
        self.ends = (now // HOUR_S + 1) * HOUR_S
        self.reads: dict[ReadPlace, ActTally] = {}
        self.refused: dict[RefusedPlace, int] = {}
        self.verified: dict[VerifiedPlace, ActTally] = {}
        self.opened: dict[tuple[int, str], OpenedSeqs] = {}
        self.bundles: list[MadeBundle] = []
        self.sources: dict[int, set[str]] = {}
        self.opened_seqs = 0


class ActRecorder:
    """The windows of one process. ``clock`` is in seconds since the Unix epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.lost = 0
        self._clock = clock
        self._window: Window | None = None
        self._ended: deque[Window] = deque()

    def read(self, org_id: int, key: str, route: str) -> None:
        """Count a read."""
        tally = self._tally(self._now().reads, ReadPlace(org_id, key, route))
        if tally is not None:
            tally.count += 1

    def saw(self, org_id: int, key: str, route: str, seqs: Iterable[int]) -> None:
        """Widen the bounds of a counted read by what it found."""
        found = list(seqs)
        tally = self._now().reads.get(ReadPlace(org_id, key, route))
        if found and tally is not None:
            tally.saw(min(found), max(found))

    def opened(self, org_id: int, key: str, seqs: Iterable[int]) -> None:
        """Note the entries whose sealed payloads were opened for a key."""
        new = set(seqs)
        window = self._now()
        if not new:
            return
        known = window.opened.setdefault((org_id, key), OpenedSeqs())
        new -= known.seqs
        if window.opened_seqs + len(new) > MAX_SEQS:
            known.unlisted += len(new)
            return
        window.opened_seqs += len(new)
        known.seqs |= new

    def refused(self, org_id: int, source: str, reason: str) -> None:
        """Count a refused request."""
        window = self._now()
        sources = window.sources.setdefault(org_id, set())
        if source not in sources:
            if len(sources) >= MAX_SOURCES:
                source = OTHERS
            sources.add(source)
        place = RefusedPlace(org_id, source, reason)
        window.refused[place] = window.refused.get(place, 0) + 1

    def verified(self, place: VerifiedPlace, first_seq: int, last_seq: int) -> None:
        """Count a verification that ended, of a range of seqs; an empty one has none."""
        tally = self._tally(self._now().verified, place)
        if tally is not None:
            tally.count += 1
            if last_seq >= first_seq:
                tally.saw(first_seq, last_seq)

    def bundle(self, made: MadeBundle) -> None:
        """Note a bundle."""
        bundles = self._now().bundles
        if len(bundles) < MAX_BUNDLES:
            bundles.append(made)
        else:
            self.lost += 1

    def _tally(self, places: dict[P, ActTally], place: P) -> ActTally | None:
        """Return the tally of a place, a new one if there is room; else None."""
        tally = places.get(place)
        if tally is None:
            if len(places) >= MAX_PLACES:
                self.lost += 1
                return None
            tally = places[place] = ActTally()
        return tally

    def _now(self) -> Window:
        """Return the window of the moment; one ends with its hour."""
        now, window = self._clock(), self._window
        if window is None or now >= window.ends:
            if window is not None:
                self._ended.append(window)
            window = self._window = Window(now)
        elif now > window.until:
            window.until = now
        return window

    def take(self) -> list[Window]:
        """Return what happened since the last call, and forget it."""
        taken = [*self._ended] if self._window is None else [*self._ended, self._window]
        self._ended, self._window = deque(), None
        return taken
