"""An answer that is made while it is sent: bytes of unknown length, whole or broken off.

Litestar's stream would turn an error in the middle into a log of its own, and would
go on for a caller that takes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

import structlog
from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Receive, Scope, Send

from ledger.core.lasting import SILENT_S, LastingByKey
from ledger.errors import QuireError

log = structlog.get_logger("quire")

_broken_off = LastingByKey(
    "an answer was broken off", "answers are no longer broken off", silent_s=SILENT_S
)

STALL_S: Final = 60.0
"""How long one piece may wait for a caller that reads nothing."""


class StreamedResponse:
    """An answer of these pieces; what is ``held`` for them is let go however it ends.

    Where a piece can't be made the connection ends without the last chunk (RFC 9112,
    section 7.1), so that no caller takes what came for the whole.
    """

    def __init__(
        self,
        first: bytes,
        rest: AsyncIterator[bytes],
        headers: list[tuple[bytes, bytes]],
        held: AsyncExitStack,
        what: str,
    ) -> None:
        self._first = first
        self._rest = rest
        self._headers = headers
        self._held = held
        self._what = what

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the answer."""
        gone = asyncio.ensure_future(_gone(receive))
        try:
            async with self._held:
                await self._send(send, gone)
        except (QuireError, TimeoutError) as error:
            reason = str(error) or f"the caller took nothing for {STALL_S:.0f} s"
            _broken_off.failed(type(error), log.warning, reason, what=self._what)
        finally:
            gone.cancel()

    async def _send(self, send: Send, gone: asyncio.Future[None]) -> None:
        start: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": 200,
            "headers": self._headers,
        }
        await send(start)
        await _piece(send, self._first, more=True)
        async for piece in self._rest:
            if gone.done():
                return
            await _piece(send, piece, more=True)
        await _piece(send, b"", more=False)


async def _piece(send: Send, body: bytes, *, more: bool) -> None:
    event: HTTPResponseBodyEvent = {"type": "http.response.body", "body": body, "more_body": more}
    async with asyncio.timeout(STALL_S):
        await send(event)


async def _gone(receive: Receive) -> None:
    """Wait until the caller is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
