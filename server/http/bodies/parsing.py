"""Parses the bodies of appends, so that no body holds up other requests.

Small bodies are parsed on the event loop, one of them in each turn of the loop. Larger ones, and
those whose check would take long, are parsed in another process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from ledger.core.org import OrgFacts
from ledger.errors import InvalidEvent
from ledger.event import Event, NeedsTime
from server.http.bodies.refused import charge
from server.trails.appending import HASTE_BYTES
from server.trails.services import Services

ON_LOOP_BYTES: Final = 262_144
"""Larger bodies are parsed in another process."""
_Parsed = tuple[list[Event], bool]


class LoopTurns:
    """Lets one of many waiting tasks go on in each turn of the event loop."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for a turn in which no other task has taken its turn."""
        loop = asyncio.get_running_loop()
        if self._taken:
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.append(turn)
            await turn
            return
        self._taken = True
        loop.call_soon(self._next)

    def _next(self) -> None:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()  # cancelled
        self._taken = bool(self._waiting)
        if self._taken:
            self._waiting.popleft().set_result(None)
            asyncio.get_running_loop().call_soon(self._next)


def loop_turns(_: Services) -> LoopTurns:
    """Return the turns of this process; made once, by :meth:`Services.part`."""
    return LoopTurns()


async def parsed_body(services: Services, org: OrgFacts, body: bytes, content_type: str) -> _Parsed:
    """Return the events of a body, and whether it was a single object.

    Raises InvalidEvent, whose bytes count against the org, QueueFull, ParserLost.
    """
    appender = services.appender
    try:
        if len(body) <= HASTE_BYTES:
            return appender.parse(body, content_type)
        if len(body) <= ON_LOOP_BYTES:
            await services.part(loop_turns).take()
            try:
                return appender.parse_in_haste(body, content_type)
            except NeedsTime:
                pass
        return await appender.parse_aside(org, body, content_type)
    except InvalidEvent:
        charge(services, org.id, len(body))
        services.quotas.charge(org, len(body))
        raise
