"""Responses to HTTP/1.0, which has no chunks: they end by their length, or with the connection.

RFC 9112, sections 6.1 and 6.3. uvicorn sends chunks to all clients.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGISendCallable

_RESET: Final = struct.pack("ii", 1, 0)


class Http10Response:
    """An ASGI application whose responses go to a client of HTTP/1.0.

    A response without a length ends with the connection. A response that breaks off resets the
    connection, because the client could not tell a normal close from a complete response.
    """

    def __init__(self, app: ASGI3Application, *, keep_alive: bool) -> None:
        self.cycle: RequestResponseCycle | None = None
        """Set before the application is called."""
        self._app = app
        self._keep_alive = keep_alive
        self._ends_with_connection = False

    async def __call__(
        self, scope: Any, receive: Callable[..., Any], send: ASGISendCallable
    ) -> None:
        """Answer one request."""
        cycle = self.cycle
        assert cycle is not None
        cycle.waiting_for_100_continue = False  # HTTP/1.0 has no interim answers
        try:
            await self._app(scope, receive, partial(self._send, cycle, send))
        finally:
            if self._ends_with_connection and not (cycle.response_complete or cycle.disconnected):
                _reset(cycle)

    async def _send(
        self, cycle: RequestResponseCycle, send: ASGISendCallable, message: Any
    ) -> None:
        if message["type"] == "http.response.start":
            message = self._started(cycle, message)
        elif self._ends_with_connection:
            # uvicorn takes no more bytes than it expects.
            cycle.expected_content_length += len(message.get("body", b""))
        await send(message)

    def _started(self, cycle: RequestResponseCycle, message: Any) -> Any:
        headers = [pair for pair in message["headers"] if pair[0].lower() != b"connection"]
        known = any(name.lower() == b"content-length" for name, _ in headers)
        if known or message["status"] in {204, 304}:
            if self._keep_alive and not cycle.more_body:
                cycle.keep_alive = True
                headers.append((b"connection", b"keep-alive"))
        elif cycle.scope["method"] != "HEAD":
            self._ends_with_connection = True
            cycle.chunked_encoding = False
        return {**message, "headers": headers}


def _reset(cycle: RequestResponseCycle) -> None:
    connection = cast("socket.socket", cycle.transport.get_extra_info("socket"))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    cycle.transport.abort()
