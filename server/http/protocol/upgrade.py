"""Reads on behind a request that asks for an Upgrade, which a server may ignore (RFC 9110, 7.8).

The parser takes everything after the head of such a request for another protocol: its body would
be lost, or read as the next request. Some clients ask for HTTP/2 in this way with every first
request. So another parser continues, which was given a head with the same framing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import httptools

_CONTINUED: Final = b"POST / HTTP/1.1\r\nhost: -\r\n%s: %s\r\n\r\n"


class ParserCallbacks(Protocol):
    """The callbacks of a parser of requests."""

    def on_message_begin(self) -> None: ...
    def on_url(self, url: bytes) -> None: ...
    def on_header(self, name: bytes, value: bytes) -> None: ...
    def on_headers_complete(self) -> None: ...
    def on_body(self, body: bytes) -> None: ...
    def on_message_complete(self) -> None: ...


def framing_of(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return a head with the framing of the body that these headers announce; None for no body."""
    for name in (b"transfer-encoding", b"content-length"):
        value = headers.get(name)
        if value is not None and value.strip(b"0"):
            return _CONTINUED % (name, value)
    return None


def parser_behind(head: bytes, callbacks: ParserCallbacks) -> httptools.HttpRequestParser:
    """Return a parser of the body after ``head``, and of the requests behind it."""
    parser = httptools.HttpRequestParser(_Behind(callbacks))
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
    parser.feed_data(head)
    return parser


class _Behind:
    """Passes the calls of a parser on, except those for its first head."""

    def __init__(self, callbacks: ParserCallbacks) -> None:
        self._callbacks = callbacks
        self._begun = False
        self.on_body = callbacks.on_body
        self.on_message_complete = callbacks.on_message_complete

    def on_message_begin(self) -> None:
        if self._begun:
            self._callbacks.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._begun:
            self._callbacks.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._begun:
            self._callbacks.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._begun:
            self._callbacks.on_headers_complete()
        self._begun = True
