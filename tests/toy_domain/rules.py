"""The toys of an org, and the limit of their turns."""

from __future__ import annotations

from collections import Counter
from typing import Final

from ledger.errors import ProblemType, QuireError
from server.access.rights import Role, right
from server.trails.services import Services
from tests.toy_domain.settings import ToySettings

WIND: Final = right("wind up toys", Role.MEMBER)


class Overwound(QuireError):
    """A toy can't be wound that far."""

    problem_type = ProblemType("toy-overwound", 409, "The spring would break")


class ToyBox:
    """The toys of this process: the turns by org."""

    def __init__(self, services: Services) -> None:
        self.turns: Counter[int] = Counter()
        self.watched = False
        self._most = services.settings.of(ToySettings).toy_turns

    def wind(self, org_id: int, turns: int) -> int:
        """Add turns; returns the sum. Raises Overwound."""
        if self.turns[org_id] + turns > self._most:
            raise Overwound(f"a toy takes {self._most} turns at most")
        self.turns[org_id] += turns
        return self.turns[org_id]
