"""Names that look like a known name misspelt: another case, other separators, or one slip.

An event may have any field, so a misspelt one (``Actor``, ``event-type``, ``outcom``) is kept in the
payload and is recognised by nobody. Nothing is refused for it; the caller gets a warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

NAMES_MAX: Final = 4_096
"""Names whose answer is remembered; when there are more, all are forgotten."""
_SEPARATORS: Final = dict.fromkeys(map(ord, "_-. :"))
_SLACK_CHARS: Final = 16
"""A name longer than the longest known one by more than this is not compared."""


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
    """Finds misspelt names; the answer for each name is remembered, so that it costs nothing again.

    :attr:`unremarkable` is a set to ask first: names that are known, or unlike all known ones.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known = tuple(known)
        self._bare = {_bare(name): name for name in self._known}
        self._chars_max = max(map(len, self._known)) + _SLACK_CHARS
        self.unremarkable: set[str] = set(self._known)
        self._misspelt: dict[str, Misspelling] = {}

    def misspelt(self, names: Iterable[str]) -> tuple[Misspelling, ...]:
        """Those of these names that look like a known name misspelt, in their order."""
        found = []
        for name in names:
            if name in self.unremarkable or len(name) > self._chars_max:
                continue
            misspelling = self._misspelt.get(name) or self._judge(name)
            if misspelling is not None:
                found.append(misspelling)
        return tuple(found)

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
        """The known name that this one is, or is one slip away from."""
        if bare in self._bare:
            return self._bare[bare]
        return next((name for known, name in self._bare.items() if _one_slip(bare, known)), None)


def _bare(name: str) -> str:
    """A name without case and separators."""
    return name.translate(_SEPARATORS).casefold()


def _one_slip(one: str, other: str) -> bool:
    """Whether a character is missing, added or replaced, or two neighbours are swapped."""
    if abs(len(one) - len(other)) > 1:
        return False
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    one, other = one[start:], other[start:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    return max(len(one), len(other)) <= 1 or (len(one) == 2 and one == other[::-1])
