"""The toys of an org, and how far they may be wound."""

from __future__ import annotations

from collections import Counter
from typing import Final

from ledger.errors import ProblemType, QuireError
from server.access.rights import Role, right
from server.trails.services import Services
from tests.toy_domain.settings import ToySettings

WIND: Final = right("wind up toys", Role.MEMBER)


class Overwound(QuireError):
    """A toy was to be wound further than it can be."""

    problem_type = ProblemType(
        "toy-overwound", 409, "The spring would break", "a toy takes 7 turns at most"
    )


class ToyBox:
    """The toys of this process: how far each org has wound them."""

    def __init__(self, services: Services) -> None:
        self.turns: Counter[int] = Counter()
        self.watched = False
        self._most = services.settings.of(ToySettings).toy_turns

    def wind(self, org_id: int, turns: int) -> int:
        """Wind further; returns all turns. Raises Overwound."""
        if self.turns[org_id] + turns > self._most:
            raise Overwound(f"a toy takes {self._most} turns at most")
        self.turns[org_id] += turns
        return self.turns[org_id]
