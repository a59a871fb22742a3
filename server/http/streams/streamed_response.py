"""A response that is made while it is sent: bytes of unknown length, complete or broken off.

Litestar's stream would log an error in the middle by itself. A client that reads too slowly loses
its connection (:mod:`server.http.protocol.watching.watched`), which ends the response.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Final

import structlog
from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Receive, Scope, Send

from ledger.core.lasting import SILENT_S, LastingByKey
from ledger.errors import QuireError
from server.http.caller import LIVE

log = structlog.get_logger("quire")

_broken_off = LastingByKey(
    "a response was broken off", "responses are no longer broken off", silent_s=SILENT_S
)

LAG_S: Final = 0.5
"""A client that has not taken a piece after this time is slow: what it holds up is released."""


class StreamedResponse:
    """A response of these pieces; ``resources`` are released however it ends.

    If a piece can't be made, the connection ends without the last chunk (RFC 9112, section 7.1),
    so that no client takes a part for the whole. ``name`` is the name of the response in the log.
    ``lags`` is called when the client is slow.
    """

    def __init__(
        self,
        first: bytes,
        rest: AsyncIterator[bytes],
        headers: list[tuple[bytes, bytes]],
        resources: AsyncExitStack,
        name: str,
        lags: Callable[[], None] = lambda: None,
    ) -> None:
        self._first = first
        self._rest = rest
        self._headers = headers
        self._resources = resources
        self._name = name
        self._lags = lags

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; it is broken off if the caller's key is revoked."""
        live = scope["state"].get(LIVE)
        if live is not None:
            live.interruptible = True
        disconnected = asyncio.ensure_future(_disconnected(receive))
        try:
            async with self._resources:
                await self._send(send, disconnected)
        except QuireError as error:
            _broken_off.failed(type(error), log.warning, str(error), what=self._name)
        finally:
            disconnected.cancel()

    async def _send(self, send: Send, disconnected: asyncio.Future[None]) -> None:
        start: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": 200,
            "headers": self._headers,
        }
        await send(start)
        await self._piece(send, self._first, more=True)
        async for piece in self._rest:
            if disconnected.done():
                return
            await self._piece(send, piece, more=True)
        await self._piece(send, b"", more=False)

    async def _piece(self, send: Send, body: bytes, *, more: bool) -> None:
        event: HTTPResponseBodyEvent = {
            "type": "http.response.body",
            "body": body,
            "more_body": more,
        }
        lag = asyncio.get_running_loop().call_later(LAG_S, self._lags)
        try:
            await send(event)
        finally:
            lag.cancel()


async def _disconnected(receive: Receive) -> None:
    """Wait until the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
