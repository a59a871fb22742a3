"""Counts the requests of callers in one process, until they are stored a few seconds later.

A request costs one look into a dictionary and one addition. A crash loses the counts of the seconds
since they were stored last, which decide nothing: from them, odd traffic is noticed.
"""

from __future__ import annotations

from typing import Final

MAX_PLACES: Final = 20_000
"""Distinct callers between two takes; of further ones the address is not counted."""
NOBODY: Final = ""
"""In place of the id of a key or of an address: none, or not known."""
Place = tuple[int, str, str]
"""An org (0: not known), the id of an API key, and the group of an address.

It is a plain tuple because every request makes one.
"""
Counts = list[int]
"""Requests that were let in; refused ones; let in ones that failed."""
REQUESTS: Final = 0
REFUSALS: Final = 1
FAILURES: Final = 2


class TrafficCounts:
    """The counts of one process since they were taken last."""

    def __init__(self) -> None:
        self._counts: dict[Place, Counts] = {}

    def admitted(self, org_id: int, key_id: str, group: str) -> None:
        """Count a request that was let in."""
        self._add((org_id, key_id, group), REQUESTS)

    def refused(self, org_id: int, key_id: str, group: str) -> None:
        """Count a request that was refused: it has no right to what it asks for, or is too many."""
        self._add((org_id, key_id, group), REFUSALS)

    def failed(self, org_id: int, key_id: str, group: str) -> None:
        """Count a failure of a request that was let in, or of a verification."""
        self._add((org_id, key_id, group), FAILURES)

    def _add(self, place: Place, which: int) -> None:
        try:
            self._counts[place][which] += 1
        except KeyError:
            self._counts_of(place)[which] += 1

    def _counts_of(self, place: Place) -> Counts:
        if len(self._counts) >= MAX_PLACES and place not in self._counts:
            place = (*place[:2], NOBODY)
        return self._counts.setdefault(place, [0, 0, 0])

    def take(self) -> dict[Place, Counts]:
        """Return what was counted since the last call, and forget it."""
        taken, self._counts = self._counts, {}
        return taken

    def give_back(self, taken: dict[Place, Counts]) -> None:
        """Count again what could not be stored."""
        for place, counts in taken.items():
            kept = self._counts_of(place)
            for which, count in enumerate(counts):
                kept[which] += count
