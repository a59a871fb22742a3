"""HTTP by hand over a socket, for requests that no client library would send."""

from __future__ import annotations

import http.client
import io
import socket
from types import TracebackType
from typing import Self, cast
from urllib.parse import urlsplit

from tests.support.serving import PeerAnswer, Server


class _Bytes:
    """The socket interface that `http.client` needs, over bytes that were read before."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._data)


class Line:
    """One connection to a server."""

    def __init__(self, server: Server, timeout: float = 20) -> None:
        address = urlsplit(server.url)
        assert address.hostname is not None
        self.socket = socket.create_connection((address.hostname, address.port or 80), timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> bytes:
        """Read until the server closes the connection; a reset counts as closing."""
        received = bytearray()
        try:
            while piece := self.socket.recv(65_536):
                received += piece
        except ConnectionError:
            pass
        return bytes(received)

    def next_answer(self) -> PeerAnswer:
        """Read the next answer on a connection that stays open."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._some()
        start, _, body = received.partition(b"\r\n\r\n")
        length = int(parse(start + b"\r\n\r\n", body=False).headers["content-length"])
        while len(body) < length:
            body += self._some()
        return parse(start + b"\r\n\r\n" + body)

    def _some(self) -> bytes:
        piece = self.socket.recv(65_536)
        assert piece, "the connection was closed"
        return piece

    def answer(self) -> PeerAnswer:
        """Read the answer to a request with `connection: close`."""
        return parse(self.read())


def parse(received: bytes, *, body: bool = True) -> PeerAnswer:
    """Parse one answer from its bytes; without ``body`` from its head alone."""
    response = http.client.HTTPResponse(cast("socket.socket", _Bytes(received)))
    response.begin()
    return PeerAnswer(response.status, dict(response.headers), response.read() if body else b"")


def head(method: str, path: str, key: str | None = None, **headers: str) -> bytes:
    """The head of a request; underscores of header names become hyphens."""
    lines = [f"{method} {path} HTTP/1.1", "host: test"]
    if key is not None:
        lines.append(f"x-api-key: {key}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()
