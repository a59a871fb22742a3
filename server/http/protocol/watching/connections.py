"""The connections of one process: how many there are, and the watchdog that looks at all of them.

One sweep a second over all connections costs a request nothing; a timer for each request would
cost a hundredth of an append.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from enum import Enum
from typing import Any, Final, Protocol

import structlog

from ledger.core.lasting import SILENT_S, Lasting, LastingByKey
from server import metrics
from server.http.protocol.watching.limits import ConnectionLimits
from server.http.protocol.watching.progress import Phase

log = structlog.get_logger("quire")

_PICK_S: Final = 0.05
"""The least time after a search for idle connections that found few."""


class ConnectionPlace(Enum):
    """How a new connection is treated."""

    OPEN = "open"
    RESERVED = "reserved"
    REFUSED = "refused"


class Watched(Protocol):
    """A connection, as the watchdog sees it."""

    @property
    def waits_for_head(self) -> bool:
        """Whether the server waits for a request head, so that no request is lost if it ends."""

    @property
    def silent(self) -> bool:
        """Whether it never had a complete request head."""

    def check(self, elapsed_s: float) -> None:
        """End the connection if it makes no progress."""

    def give_way(self) -> None:
        """End the connection at once."""


class Connections:
    """The connections of one process, in the order in which they came."""

    def __init__(self, limits: ConnectionLimits, loop: asyncio.AbstractEventLoop) -> None:
        self.limits = limits
        self._loop = loop
        self._open: dict[Watched, str | None] = {}
        self._reserved: dict[Watched, None] = {}
        self._by_group: Counter[str] = Counter()
        self._idle: deque[Watched] = deque()
        self._pick_at = 0.0
        self._swept_at = loop.time()
        self._sweeping: asyncio.TimerHandle | None = None
        self._full = Lasting(
            "connections are refused or give way", "no connections are refused", silent_s=SILENT_S
        )
        self._slow = LastingByKey(
            "connections are ended", "such connections are no longer ended", silent_s=SILENT_S
        )

    def __len__(self) -> int:
        """Return how many connections there are, those of the reserve included."""
        return len(self._open) + len(self._reserved)

    def admit(self, connection: Watched, host: str | None) -> ConnectionPlace:
        """Find a place for a new connection. At the limit the oldest that is idle gives way."""
        group = self.limits.group_of(host)
        if group is not None and self._by_group[group] >= self.limits.per_address:
            reason = "one address has as many connections as it may"
            self._refused("address", reason, address=group)
            return ConnectionPlace.REFUSED
        if len(self._open) >= self.limits.connections and not self._make_room():
            return self._to_reserve(connection)
        self._open[connection] = group
        if group is not None:
            self._by_group[group] += 1
        self._watch()
        return ConnectionPlace.OPEN

    def release(self, connection: Watched) -> None:
        """Drop a connection that ended, or that ends."""
        self._reserved.pop(connection, None)
        group = self._open.pop(connection, None)
        if group is not None:
            self._by_group[group] -= 1
            if not self._by_group[group]:
                del self._by_group[group]

    def ended(self, phase: Phase, address: object) -> None:
        """Count and log a connection, or the reading of a body, that the watchdog ended.

        The line names the address of the newest one.
        """
        metrics.CONNECTIONS_ENDED.labels(phase.name.lower()).inc()
        self._slow.failed(phase, log.info, phase.value, address=str(address))

    def _refused(self, cause: str, reason: str, **fields: Any) -> None:
        metrics.CONNECTIONS_ENDED.labels(cause).inc()
        self._full.failed(log.warning, reason, **fields)

    def _to_reserve(self, connection: Watched) -> ConnectionPlace:
        """Give a connection beyond the limit a place where it may ask for the server's health."""
        self._refused("full", "this process has as many connections as it may")
        if len(self._reserved) >= self.limits.reserve:
            # So a health check, which sends its request at once, is not kept out by silent ones.
            silent = next((one for one in self._reserved if one.waits_for_head), None)
            if silent is None:
                return ConnectionPlace.REFUSED
            self._end(silent)
        self._reserved[connection] = None
        self._watch()
        return ConnectionPlace.RESERVED

    def _make_room(self) -> bool:
        """End the oldest connection that waits for a request; return whether there was one."""
        now = self._loop.time()
        if not self._idle and now >= self._pick_at:
            idle = [one for one in self._open if one.waits_for_head]
            self._idle.extend(sorted(idle, key=lambda one: not one.silent))
            # A search that finds many is worth its time.
            self._pick_at = now if len(idle) > len(self._open) // 8 else now + _PICK_S
        while self._idle:
            one = self._idle.popleft()
            if one in self._open and one.waits_for_head:
                self._refused("room", "idle connections give way to new ones")
                self._end(one)
                return True
        return False

    def _end(self, connection: Watched) -> None:
        self.release(connection)
        connection.give_way()

    def _watch(self) -> None:
        """Begin to sweep, if there was no connection until now."""
        if self._sweeping is None:
            self._swept_at = self._loop.time()
            self._sweeping = self._loop.call_later(self.limits.sweep_s, self._sweep)

    def _sweep(self) -> None:
        now = self._loop.time()
        # A loop that stood still, or a machine that slept, is not the clients' fault.
        elapsed_s = min(now - self._swept_at, 2 * self.limits.sweep_s)
        self._swept_at = now
        self._idle.clear()
        for connection in [*self._open, *self._reserved]:
            connection.check(elapsed_s)
        self._sweeping = None
        if self._open or self._reserved:
            self._watch()
