"""A connection that holds a place among those of its process, and that the watchdog can end."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.http.protocol.address import ADDRESS
from server.http.protocol.watching.connections import ConnectionPlace, Connections
from server.http.protocol.watching.progress import Countdown, Credit, Phase
from server.http.protocol.watching.receiving import LATE, READER
from server.http.protocol.watching.transport import MeteredTransport


class HeldFlow(FlowControl):
    """Flow control whose reading does not resume while received bytes wait to be parsed."""

    held = False

    def resume_reading(self) -> None:
        """Read on, unless bytes wait."""
        if not self.held:
            super().resume_reading()


class WatchedProtocol(HttpToolsProtocol):
    """One connection. It has no timers: the watchdog of all connections calls :meth:`check`."""

    flow: HeldFlow
    metered: MeteredTransport
    _place = ConnectionPlace.OPEN
    _pending_bytes = 0
    """Bytes received since the last progress in a head or body."""
    _received = 0
    """Bytes received in all."""
    _backlog: memoryview | None = None
    """Received bytes that are not parsed yet."""

    def __init__(self, *arguments: Any, watched_by: Connections, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._watched_by = watched_by
        self._wait = Countdown()
        self._body_credit = Credit()
        self._answer_credit = Credit()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place among the connections of the process, or end."""
        metered = self.metered = MeteredTransport(transport, self.loop.call_soon)
        super().connection_made(cast("asyncio.Transport", metered))
        self.flow = HeldFlow(self.transport)
        metered.closes_late = self._body_is_unread
        self._place = self._watched_by.admit(self, self.client and self.client[0])
        if self._place is ConnectionPlace.REFUSED:
            metered.reset()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._watched_by.release(self)
        self.metered.closes_late = bool
        self._backlog = None
        super().connection_lost(exc)

    def _body_is_unread(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and cycle.response_complete and cycle.more_body

    @property
    def waits_for_head(self) -> bool:
        """Whether the server waits for a request head: no request is lost if the connection ends."""
        cycle: RequestResponseCycle | None = self.cycle
        if self._backlog is not None or self.metered.lingers or self.metered.unsent():
            return False
        return cycle is None or cycle.response_complete

    @property
    def silent(self) -> bool:
        """Whether the connection never had a complete request head."""
        return self.cycle is None

    def give_way(self) -> None:
        """End the connection at once."""
        self.metered.reset()

    def check(self, elapsed_s: float) -> None:
        """End the connection if it makes no progress; called once a sweep."""
        limits, unsent = self._watched_by.limits, self.metered.unsent()
        taken = self.metered.written - unsent
        passed_s = elapsed_s if unsent else -elapsed_s
        if self._answer_credit.spent(self, taken, limits.patience_s, limits.least_rate, passed_s):
            self._end(Phase.ANSWER)
            return
        phase = None if unsent else self._phase()
        if phase is Phase.BODY:
            if self._body_credit.spent(
                self.cycle, self._received, limits.patience_s, limits.least_rate, elapsed_s
            ):
                self._end_body()
        elif phase is None:
            self._wait.stop()
        elif self._wait.expired(phase, self.cycle, self._limit_s(phase), elapsed_s):
            self._end(phase)

    def _phase(self) -> Phase | None:
        """Return what the server waits for; None while it works or writes."""
        if self.metered.lingers:
            return Phase.REST
        cycle: RequestResponseCycle | None = self.cycle
        if self.waits_for_head:
            return Phase.HEAD if cycle is None or self._pending_bytes else Phase.IDLE
        if cycle is None or not cycle.more_body or self.flow.read_paused:
            return None
        asked = not cycle.waiting_for_100_continue
        return Phase.BODY if asked and LATE not in cycle.scope["state"] else None

    def _limit_s(self, phase: Phase) -> float:
        limits = self._watched_by.limits
        if phase is Phase.HEAD:
            return limits.patience_s
        return limits.idle_s if phase is Phase.IDLE else limits.linger_s

    def _end_body(self) -> None:
        """Let the application answer 408; the connection ends after the answer."""
        state: dict[str, Any] = self.cycle.scope["state"]
        state[LATE] = True
        reader = state.get(READER)
        if reader is not None:
            reader.cancel()
        self._watched_by.ended(Phase.BODY, self._address())

    def _address(self) -> object:
        """Return the client's address of the newest request, before the first that of the peer."""
        cycle: RequestResponseCycle | None = self.cycle
        found = None if cycle is None else cycle.scope["state"].get(ADDRESS)
        return found or (self.client and self.client[0])

    def _end(self, phase: Phase) -> None:
        if phase is Phase.IDLE:
            self.transport.close()
            return
        self._watched_by.ended(phase, self._address())
        self.metered.reset()
