"""Parses the bodies of appends, so that no body holds up other requests.

Small bodies are parsed on the event loop, in pieces. Larger ones, and those whose check would take
long, are parsed in another process.
"""

from __future__ import annotations

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


async def parsed_body(services: Services, org: OrgFacts, body: bytes, content_type: str) -> _Parsed:
    """Return the events of a body, and whether it was a single object.

    Raises InvalidEvent, whose bytes count against the org, QueueFull, ParserLost.
    """
    appender = services.appender
    try:
        if len(body) <= HASTE_BYTES:
            return appender.parse(body, content_type)
        if len(body) <= ON_LOOP_BYTES:
            try:
                return await appender.parse_in_haste(org, body, content_type)
            except NeedsTime:
                pass
        return await appender.parse_aside(org, body, content_type)
    except InvalidEvent:
        charge(services, org.id, len(body))
        services.quotas.charge(org, len(body))
        raise
