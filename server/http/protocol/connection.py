"""The connection under a request: uvicorn's, with bounds on everything before the body.

The parser keeps headers and trailers in memory until they end, and neither it nor uvicorn limits
their size or the time they take. Nor does either check that a request head is unambiguous, support
a response that ends with the connection, or go on behind an Upgrade that is not taken up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ledger.errors import INVALID_REQUEST, ProblemType
from server.http.problems import (
    HEADERS_TOO_LARGE,
    MEDIA_TYPE,
    UNSUPPORTED_TYPE,
    document,
)
from server.http.protocol.address import (
    NO_PROXIES,
    PROXY_RULES,
    ConnectionPeer,
    note_address,
    peer_of,
)
from server.http.protocol.bytes_response import BytesResponse
from server.http.protocol.http10 import Http10Response
from server.http.protocol.response_headers import DEFAULTS, DefaultHeaders
from server.http.protocol.upgrade import framing_of, parser_behind
from server.http.protocol.wellformed import HEADERS, RequestFlaw, flaw_of, target_of

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MAX_HEAD_BYTES: Final = 65_536
"""Bytes received without reaching the end of headers or trailers, or a piece of the body.

One read of the socket may exceed it; a request that the read completes is accepted.
"""
HEAD_TIMEOUT_S: Final = 30.0
"""A connection that has no complete head at two checks, this far apart, is closed."""


def _refusal(flaw: RequestFlaw) -> ASGI3Application:
    body = document(flaw.kind, flaw.detail)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if flaw.kind is UNSUPPORTED_TYPE:
        headers = ((b"accept-encoding", b"identity"),)  # RFC 9110, section 12.5.3
    answer = BytesResponse(flaw.kind.status, body, headers, MEDIA_TYPE.encode())
    return cast("ASGI3Application", DefaultHeaders(answer))


class BoundedProtocol(HttpToolsProtocol):
    """One connection, with one timer for its whole life, so that requests pay nothing for it."""

    head_timeout_s = HEAD_TIMEOUT_S
    peer: ConnectionPeer
    """The other end of the connection; a request's own address is in its state."""
    _pending_bytes = 0
    _body_head: bytes | None = None
    """The framing of the body of a request that asks for an Upgrade, until it is read."""
    _seen_waiting: object = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to watch the connection."""
        super().connection_made(transport)
        self.app = cast("ASGI3Application", DefaultHeaders(self.app))
        host = None if self.client is None else self.client[0]
        self.peer = peer_of(host, self.app_state.get(PROXY_RULES, NO_PROXIES))
        self.loop.call_later(self.head_timeout_s, self._check_progress)

    def data_received(self, data: bytes) -> None:
        """Receive bytes; too many without progress end the connection with 431."""
        self._pending_bytes += len(data)
        self._unset_keepalive_if_required()
        self._parse(data)
        if self._pending_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HEADERS_TOO_LARGE, f"the headers exceed {MAX_HEAD_BYTES} bytes")

    def _parse(self, data: bytes) -> None:
        """Parse requests; bytes that are not HTTP end the connection with 400."""
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if self._body_head is not None:
                    self.parser = parser_behind(self._body_head, self)
                    self._body_head = None
            except httptools.HttpParserError as error:
                self.logger.warning("a request is not HTTP/1.1: %s", error)
                reason = f": {error}" if str(error) else ""
                self._refuse(INVALID_REQUEST, f"this is not an HTTP/1.1 request{reason}")
                return
            else:
                return

    def on_headers_complete(self) -> None:
        """Note progress; run the request, or refuse it if its head is ambiguous."""
        self._pending_bytes = 0
        version = self.parser.get_http_version()
        method = self.parser.get_method()
        if self.url[:1] != b"/":
            self.url = target_of(method, self.url)
        by_name = self.scope["state"][HEADERS] = dict(self.headers)
        note_address(self.scope, self.peer, self.headers)
        if b"upgrade" in by_name and self.parser.should_upgrade():
            self._body_head = framing_of(by_name)
        flaw = flaw_of(method.decode("ascii"), version, self.url, self.headers, by_name)
        if flaw is None and version == "1.1":
            super().on_headers_complete()
        else:
            self._run_otherwise(flaw, version)
        # Trailers go to a list that is not read: they must not be taken for headers.
        self.headers = []

    def _run_otherwise(self, flaw: RequestFlaw | None, version: str) -> None:
        """Run a request of HTTP/1.0, or refuse a request in its turn and end the connection."""
        app = self.app
        until_closed = None
        if flaw is not None:
            self.app = _refusal(flaw)
            self.url = b"/"  # an invalid target can't be parsed
        if version != "1.1":
            keep_alive = flaw is None and self.parser.should_keep_alive()
            self.app = until_closed = Http10Response(self.app, keep_alive=keep_alive)
        super().on_headers_complete()
        self.app = app
        if flaw is not None:
            self.cycle.keep_alive = False
        if until_closed is not None:
            until_closed.cycle = self.cycle

    def on_body(self, body: bytes) -> None:
        """Note progress."""
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note progress."""
        self._pending_bytes = 0
        if self._body_head is None:  # else its body follows, which the parser does not expect
            super().on_message_complete()

    def _refuse(self, kind: ProblemType, detail: str) -> None:
        """End the connection, with an answer if it can't be taken for that of another request."""
        cycle: RequestResponseCycle | None = self.cycle
        broken_off = cycle is not None and cycle.more_body and not cycle.response_started
        if cycle is None or cycle.response_complete or (broken_off and not self.pipeline):
            body = document(kind, detail)
            defaults = b"".join(b"%s: %s\r\n" % pair for pair in DEFAULTS)
            head = (
                f"HTTP/1.1 {kind.status} {kind.title}\r\ncontent-type: {MEDIA_TYPE}\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n"
            )
            self.transport.write(head.encode() + defaults + b"\r\n" + body)
        self.transport.close()

    def _check_progress(self) -> None:
        if self.transport.is_closing():
            return
        waiting = self._waiting()
        if waiting is not None and waiting is self._seen_waiting:
            self.transport.close()
            return
        self._seen_waiting = waiting
        self.loop.call_later(self.head_timeout_s, self._check_progress)

    def _waiting(self) -> object:
        """Return an object that changes with progress while a request head is awaited, else None.

        Between requests uvicorn's own keep-alive limit applies.
        """
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None:
            return self.connections
        return cycle if cycle.response_complete and self._pending_bytes else None
