"""A response whose body is already bytes, sent as two ASGI messages.

Litestar's own response objects cost as much as the rest of an append.
"""

from __future__ import annotations

from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Receive, Scope, Send


class BytesResponse:
    """A response of bytes, by default JSON; call it as an ASGI application."""

    __slots__ = ("_body", "_content_type", "_headers", "_status")

    def __init__(
        self,
        status: int,
        body: bytes,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        content_type: bytes = b"application/json",
    ) -> None:
        self._status = status
        self._body = body
        self._headers = headers
        self._content_type = content_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the answer."""
        start: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": self._status,
            "headers": [
                (b"content-type", self._content_type),
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
