"""An answer that is already bytes: two ASGI messages and nothing in between.

Litestar's own response objects cost as much as the rest of an append.
"""

from __future__ import annotations

from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Receive, Scope, Send


class Written:
    """A JSON answer, given as bytes; call it as an ASGI application."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(
        self, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        self._status = status
        self._body = body
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the answer."""
        start: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": self._status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(self._body)),
                *self._headers,
            ],
        }
        body: HTTPResponseBodyEvent = {
            "type": "http.response.body",
            "body": self._body,
            "more_body": False,
        }
        await send(start)
        await send(body)
