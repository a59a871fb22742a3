"""Counts the bytes that each org sent in vain, and lets it wait when they are many."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ledger.errors import QueueFull
from server.trails.services import Services

BURST_BYTES: Final = 64 << 20
"""Refused bytes of one org that are forgiven at once."""
FORGIVEN_RATE: Final = 1 << 20
"""Refused bytes of one org that are forgiven in a second."""
ORGS_MAX: Final = 10_000


class RefusedBytes:
    """The refused bytes of each org, which are forgiven with time (a leaky bucket)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._owed: dict[int, tuple[float, float]] = {}
        """The bytes of an org, and when they were counted."""

    def charge(self, org_id: int, count: int) -> None:
        """Count bytes against an org."""
        owed = self.owed(org_id) + count
        if len(self._owed) >= ORGS_MAX:
            self._owed = {one: found for one, found in self._owed.items() if self.owed(one) > 0}
        self._owed[org_id] = owed, self._clock()

    def owed(self, org_id: int) -> float:
        """Return the bytes of an org that are not forgiven yet."""
        bytes_then, then = self._owed.get(org_id, (0.0, 0.0))
        return max(bytes_then - FORGIVEN_RATE * (self._clock() - then), 0.0)

    def admit(self, org_id: int) -> None:
        """Raise QueueFull if an org must wait before it may send a large body again."""
        if org_id not in self._owed:
            return
        beyond = self.owed(org_id) - BURST_BYTES
        if beyond > 0:
            raise QueueFull(
                "too many bytes of this org were refused; correct the requests, and retry later",
                retry_after=1 + int(beyond / FORGIVEN_RATE),
            )


def refused_bytes(_: Services) -> RefusedBytes:
    """Return the refused bytes of this process; made once, by :meth:`Services.part`."""
    return RefusedBytes()


def charge(services: Services, org_id: int, count: int) -> None:
    """Count bytes against an org that were received and refused."""
    services.part(refused_bytes).charge(org_id, count)
