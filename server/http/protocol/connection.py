"""The connection under a request: uvicorn's, with a bound on everything that it holds.

The parser keeps headers and trailers in memory until they end, and neither it nor uvicorn limits
their size, the number of requests that wait behind each other, or the time of anything. Nor does
either check that a request head is unambiguous, support a response that ends with the connection,
or go on behind an Upgrade that is not taken up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from ledger.errors import INVALID_REQUEST, ProblemType
from server.http.problems import HEADERS_TOO_LARGE, MEDIA_TYPE, document
from server.http.protocol.address import (
    NO_PROXIES,
    PROXY_RULES,
    ConnectionPeer,
    note_address,
    peer_of,
)
from server.http.protocol.http10 import Http10Response
from server.http.protocol.refusals import NO_PLACE, refusal
from server.http.protocol.response_headers import DEFAULTS, DefaultHeaders
from server.http.protocol.upgrade import framing_of, parser_behind
from server.http.protocol.watching.connections import ConnectionPlace
from server.http.protocol.watching.watched import WatchedProtocol
from server.http.protocol.wellformed import HEADERS, RequestFlaw, flaw_of, target_of

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MAX_HEAD_BYTES: Final = 65_536
"""Bytes received without reaching the end of headers or trailers, or a piece of the body.

One slice of what is received may exceed it; a request that the slice completes is accepted.
"""
SLICE_BYTES: Final = 8_192
"""Bytes that are parsed before it is seen whether a request waits behind another one."""
MAX_BITS: Final = 256
"""Pieces of bodies in one slice; after more, other connections have their turn."""
LINGER_BYTES: Final = 64 << 20
"""Bytes of the unread rest of a body that are received after an early answer."""


class BoundedProtocol(WatchedProtocol):
    """One connection: parses requests, and runs those that are well formed."""

    peer: ConnectionPeer
    """The other end of the connection; a request's own address is in its state."""
    _body_head: bytes | None = None
    """The framing of the body of a request that asks for an Upgrade, until it is read."""
    _bits = 0
    _linger_bytes = LINGER_BYTES
    _keep_alive = False
    """Whether the connection stays after the newest request, once its body is complete."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the other end, and give every answer the default headers."""
        super().connection_made(transport)
        self.app = cast("ASGI3Application", DefaultHeaders(self.app))
        host = None if self.client is None else self.client[0]
        self.peer = peer_of(host, self.app_state.get(PROXY_RULES, NO_PROXIES))

    def data_received(self, data: bytes) -> None:
        """Receive bytes; too many without progress end the connection with 431."""
        self._received += len(data)
        if self.metered.lingers:
            self._linger_bytes -= len(data)
            if self._linger_bytes < 0:
                self.metered.reset()
        elif self._backlog is not None:
            self._backlog = memoryview(bytes(self._backlog) + data)
            self._hold()
        elif len(data) <= SLICE_BYTES:
            self._parse(data)
        else:
            self._backlog = memoryview(data)
            self._parse_backlog()

    def _parse_backlog(self) -> None:
        """Parse what is received, slice by slice, until a request waits behind another one.

        So requests that are sent without reading the answers take no more memory than their bytes.
        """
        while self._backlog is not None and not self.pipeline and not self.transport.is_closing():
            piece, rest = self._backlog[:SLICE_BYTES], self._backlog[SLICE_BYTES:]
            self._backlog = rest if len(rest) else None
            self._bits = 0
            self._parse(piece)
            if self._bits > MAX_BITS and self._backlog is not None:
                self._hold()
                self.loop.call_soon(self._parse_backlog)
                return
        if self.transport.is_closing():
            return
        if self._backlog is not None:
            self._hold()
        elif self.flow.held:
            self.flow.held = False
            self.flow.resume_reading()

    def _hold(self) -> None:
        """Receive no more until the backlog is parsed."""
        self.flow.held = True
        self.flow.pause_reading()

    def _parse(self, data: bytes | memoryview) -> None:
        """Parse requests; bytes that are not HTTP end the connection with 400."""
        self._pending_bytes += len(data)
        while len(data):
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
                break
        if self._pending_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HEADERS_TOO_LARGE, f"the headers exceed {MAX_HEAD_BYTES} bytes")

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
        if self._place is ConnectionPlace.RESERVED:
            flaw = flaw or self._not_reserved()
        if flaw is None and version == "1.1":
            super().on_headers_complete()
        else:
            self._run_otherwise(flaw, version)
        # Trailers go to a list that is not read: they must not be taken for headers.
        self.headers = []
        # An answer before the end of the body ends the connection, and says so.
        cycle: RequestResponseCycle = self.cycle
        self._keep_alive, cycle.keep_alive = cycle.keep_alive, False

    def _not_reserved(self) -> RequestFlaw | None:
        """Return why this request is not answered on a connection of the reserve."""
        path = self.url.partition(b"?")[0]
        return None if path in self._watched_by.limits.reserved_paths else NO_PLACE

    def _run_otherwise(self, flaw: RequestFlaw | None, version: str) -> None:
        """Run a request of HTTP/1.0, or refuse a request in its turn and end the connection."""
        app = self.app
        until_closed = None
        if flaw is not None:
            self.app = refusal(flaw)
            self.url = b"/"  # an invalid target can't be parsed
        if version != "1.1":
            keep_alive = flaw is None and self._place is ConnectionPlace.OPEN
            keep_alive = keep_alive and self.parser.should_keep_alive()
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
        self._bits += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note progress."""
        self._pending_bytes = 0
        if self._body_head is None:  # else its body follows, which the parser does not expect
            if not self.cycle.response_started:
                self.cycle.keep_alive = self._keep_alive and self._place is ConnectionPlace.OPEN
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Run the next request, if it is received already; no timer is started for it."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        if self._backlog is not None:
            self.loop.call_soon(self._parse_backlog)

    def shutdown(self) -> None:
        """End the connection after the requests that are in progress."""
        self._keep_alive = False
        super().shutdown()

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
