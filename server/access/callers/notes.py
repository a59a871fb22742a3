"""Notes of what callers of one process did, until they are written as security events.

Nothing is written for each request: occurrences of the same kind by the same caller are one note,
with their number. Everything is bounded: callers that do not fit are noted together, as others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

MAX_PLACES: Final = 5_000
"""Distinct notes that wait to be written."""
MAX_OF_ORG: Final = 500
"""Distinct notes of one org; further ones are noted without key and address."""
MAX_CAUSES: Final = 4
"""Distinct causes of one note that are kept, the newest ones."""
MAX_REASON_CHARS: Final = 1_000


class NotePlace(NamedTuple):
    """Where something happened: an org (0: all of them), a kind of security event, and by whom.

    ``key_id`` and ``group``, the group of an address, are None where they are not known, or where
    there are too many of them.
    """

    org_id: int
    kind: str
    key_id: str | None = None
    group: str | None = None

    @property
    def others(self) -> NotePlace:
        """The place of the callers of this org that do not fit."""
        return self._replace(key_id=None, group=None)


class Cause(NamedTuple):
    """Why it happened, in words, and how many characters the query had."""

    reason: str = ""
    query_chars: int = 0


class CallerNote:
    """How often something happened, and its newest causes.

    ``counted`` of the occurrences are in the database already, while their event waits.
    """

    __slots__ = ("causes", "count", "counted")

    def __init__(self) -> None:
        self.count = self.counted = 0
        self.causes: dict[Cause, None] = {}

    def add(self, cause: Cause, count: int = 1) -> None:
        """Count occurrences with one cause."""
        self.count += count
        if cause in self.causes:
            return
        if len(self.causes) >= MAX_CAUSES:
            del self.causes[next(iter(self.causes))]
        self.causes[cause] = None

    def merge(self, other: CallerNote) -> None:
        """Add another note."""
        self.count += other.count
        self.counted += other.counted
        for cause in other.causes:
            self.add(cause, 0)


class SecurityNotes:
    """The notes of one process: ``services.callers.notes``.

    Whoever refuses, blocks or sanitizes something says so here; see :mod:`server.threats.writing`
    for what becomes of it.
    """

    def __init__(self) -> None:
        self._notes: dict[NotePlace, CallerNote] = {}
        self._of_org: dict[int, int] = {}

    def note(self, place: NotePlace, cause: Cause = Cause()) -> None:  # noqa: B008 - a constant
        """Note one occurrence of a kind of event, which must be in ``EVENT_KINDS``."""
        found = self._notes.get(place) or self._new(place)
        if len(cause.reason) > MAX_REASON_CHARS:
            cause = cause._replace(reason=cause.reason[:MAX_REASON_CHARS])
        found.add(cause)

    def _new(self, place: NotePlace) -> CallerNote:
        held = self._of_org.get(place.org_id, 0)
        if place != place.others and (held >= MAX_OF_ORG or len(self._notes) >= MAX_PLACES):
            return self._notes.get(place.others) or self._new(place.others)
        self._of_org[place.org_id] = held + 1
        return self._notes.setdefault(place, CallerNote())

    def take(self) -> dict[NotePlace, CallerNote]:
        """Return the notes since the last call, and forget them."""
        taken, self._notes, self._of_org = self._notes, {}, {}
        return taken

    def give_back(self, taken: Mapping[NotePlace, CallerNote]) -> None:
        """Keep notes that could not be written."""
        for place, note in taken.items():
            (self._notes.get(place) or self._new(place)).merge(note)
