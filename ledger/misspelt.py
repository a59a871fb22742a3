"""Finds names that look like a known name misspelt: another case, other separators, or one slip.

An event may have any field, so a misspelt field (``Actor``, ``event-type``, ``outcom``) is kept in
the payload and no search finds it. The event is accepted; the caller gets a warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

NAMES_MAX: Final = 4_096
"""Names whose result is cached; when there are more, the cache starts anew."""
EVENT_NAMES_MAX: Final = 100
"""Names of one event that are looked up."""
REQUEST_NAMES_MAX: Final = 20_000
"""Names of all events of one request that are looked up."""
JUDGED_MAX: Final = 100
"""Names of one request that are compared with the known names, at a few µs each."""
NAME_CHARS_MAX: Final = 128
"""A longer name is neither compared nor cached."""
_SEPARATORS: Final = dict.fromkeys(map(ord, "_-. :"))


class Misspelling(NamedTuple):
    """A name as it was sent, and the known name that it looks like."""

    sent: str
    known: str

    def __str__(self) -> str:
        shown = "".join(char if char.isprintable() else "\ufffd" for char in self.sent)
        return (
            f'"{shown}" is no recognised field and is kept in the payload only; '
            f'did you mean "{self.known}"?'
        )


class KnownNames:
    """Finds misspelt names; the result for each name is cached.

    :attr:`unremarkable` is a set to check first: names that are known, or unlike all known names.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known = tuple(known)
        self._bare = {_bare(name): name for name in self._known}
        self.unremarkable: set[str] = set(self._known)
        self._misspelt: dict[str, Misspelling] = {}

    def unfamiliar(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the names that are not known to be unremarkable, at most EVENT_NAMES_MAX."""
        others = (name for name in names if name not in self.unremarkable)
        return tuple(islice(others, EVENT_NAMES_MAX))

    def misspelt(self, names: Iterable[tuple[int, str]]) -> list[tuple[int, Misspelling]]:
        """Return the names that look like a known name misspelt, each with its number.

        At most REQUEST_NAMES_MAX names are looked up, and JUDGED_MAX compared for the first time.
        """
        found, judged = [], 0
        for number, name in islice(names, REQUEST_NAMES_MAX):
            if name in self.unremarkable or len(name) > NAME_CHARS_MAX:
                continue
            misspelling = self._misspelt.get(name)
            if misspelling is None and judged < JUDGED_MAX:
                judged += 1
                misspelling = self._judge(name)
            if misspelling is not None:
                found.append((number, misspelling))
        return found

    def _judge(self, name: str) -> Misspelling | None:
        if len(self.unremarkable) + len(self._misspelt) >= NAMES_MAX:
            # Replaced, not emptied: another thread may be reading them.
            self.unremarkable, self._misspelt = set(self._known), {}
        known = self._like(_bare(name))
        if known is None:
            self.unremarkable.add(name)
            return None
        misspelling = self._misspelt[name] = Misspelling(name, known)
        return misspelling

    def _like(self, bare: str) -> str | None:
        """Return the known name that equals this name, or is one slip away from it."""
        if bare in self._bare:
            return self._bare[bare]
        return next((name for known, name in self._bare.items() if _one_slip(bare, known)), None)


def _bare(name: str) -> str:
    """Return a name without case and separators."""
    return name.translate(_SEPARATORS).casefold()


def _one_slip(one: str, other: str) -> bool:
    """Return whether one character is missing, added or replaced, or two neighbours swapped."""
    if abs(len(one) - len(other)) > 1:
        return False
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    one, other = one[start:], other[start:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    return max(len(one), len(other)) <= 1 or (len(one) == 2 and one == other[::-1])
