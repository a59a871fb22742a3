"""Makes the protocol of each connection, with the limits of its process."""

from __future__ import annotations

import asyncio
from typing import Any

from server.http.protocol.connection import BoundedProtocol
from server.http.protocol.watching.connections import Connections
from server.http.protocol.watching.limits import ConnectionLimits


class ProtocolFactory:
    """Called by uvicorn as its class of protocols; one per server, and sent to its workers."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.connections: Connections | None = None
        """The connections of this process, from the first one on."""

    def __call__(
        self, *arguments: Any, _loop: asyncio.AbstractEventLoop | None = None, **named: Any
    ) -> BoundedProtocol:
        """Return the protocol of a new connection."""
        if self.connections is None:
            loop = _loop or asyncio.get_running_loop()
            self.connections = Connections(self.limits, loop)
        return BoundedProtocol(*arguments, _loop=_loop, watched_by=self.connections, **named)
