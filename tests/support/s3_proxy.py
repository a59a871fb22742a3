"""An HTTP proxy before object storage that loses, cuts, throttles and corrupts requests.

The server behind it is real. Only the fault is made here: no real server makes it on demand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from enum import Enum
from types import TracebackType
from typing import NamedTuple

CHUNK = 65_536
HEAD_BYTES_MAX = 65_536
THROTTLED = (503, "SlowDown", "Please reduce your request rate.")
DENIED = (403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist.")


class Fault(Enum):
    """What happens to one request."""

    NONE = "forwarded, and its answer too"
    LOST = "the line is cut before the server sees it"
    ANSWER_LOST = "carried out, but the line is cut before its answer"
    ANSWER_TRUNCATED = "the answer ends in the middle of its body"
    ANSWER_CORRUPTED = "one bit of the answer's body is flipped"
    BODY_TRUNCATED = "the line is cut in the middle of the request's body"
    BODY_CORRUPTED = "one bit of the request's body is flipped"
    BODY_REPLACED = "one bit is flipped, and so that the server can't see it"
    THROTTLED = "answered with 503 SlowDown"
    DENIED = "answered with 403, as by a server that does not know the access key"


class Request(NamedTuple):
    """One request, as received."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


Decide = Callable[[Request], Fault]


def once(method: str, fault: Fault) -> Decide:
    """The fault for the first request of a method, none for later requests."""
    return in_turn(method, [fault])


def in_turn(method: str, faults: Iterable[Fault]) -> Decide:
    """One fault for each of the first requests of a method, none for later requests."""
    remaining = iter(faults)

    def decide(request: Request) -> Fault:
        return next(remaining, Fault.NONE) if request.method == method else Fault.NONE

    return decide


def always(method: str, fault: Fault) -> Decide:
    """The fault for every request of a method."""
    return lambda request: fault if request.method == method else Fault.NONE


class S3Proxy:
    """Forwards one request per connection; calls `decide` for each."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self.decide: Decide = lambda _: Fault.NONE
        self.drop_answer_headers: tuple[str, ...] = ()  # by name prefix
        self.requests: list[Request] = []
        self.endpoint = ""
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> S3Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()

    def methods(self) -> list[str]:
        """The methods of all requests so far, in order."""
        return [request.method for request in self.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            request = await _received(reader, writer)
            self.requests.append(request)
            answer = await self._answered(request, self.decide(request))
            writer.write(answer)
            await writer.drain()
        writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def _answered(self, request: Request, fault: Fault) -> bytes:
        """The bytes for the client; none if the connection is cut."""
        match fault:
            case Fault.LOST:
                return b""
            case Fault.THROTTLED | Fault.DENIED:
                return _refusal(request, *(DENIED if fault is Fault.DENIED else THROTTLED))
            case Fault.BODY_TRUNCATED:
                await self._carried(request, request.body[: len(request.body) // 2])
                return b""
            case Fault.BODY_CORRUPTED | Fault.BODY_REPLACED:
                sent = _unchecked(request) if fault is Fault.BODY_REPLACED else request
                return await self._carried(sent, _flipped(request.body))
            case _:
                answer = await self._carried(request, request.body)
                return _spoilt(_without(answer, self.drop_answer_headers), fault)

    async def _carried(self, request: Request, body: bytes) -> bytes:
        """Forward the request with this body; returns the server's answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            lines = [f"{request.method} {request.path} HTTP/1.1"]
            lines += [f"{name}: {value}" for name, value in request.headers]
            writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
            writer.write(body)
            await writer.drain()
            if len(body) < len(request.body):
                return b""
            return await reader.read(-1)
        finally:
            writer.transport.abort()


async def _received(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *rest = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in rest)]
    headers = tuple(
        (name, value) for name, value in pairs if name.lower() not in {"connection", "expect"}
    )
    if any(name.lower() == "expect" for name, _ in pairs):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request = Request(method, path, headers, b"")
    body = await reader.readexactly(int(request.header("content-length") or 0))
    return request._replace(body=body)


def _unchecked(request: Request) -> Request:
    """The request without the digest headers, by which a server would notice a changed body."""
    headers = tuple(
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD") if name.lower() == "x-amz-content-sha256"
        else (name, value)
        for name, value in request.headers
        if not name.lower().startswith("x-amz-checksum-") and name.lower() != "content-md5"
    )  # fmt: skip
    return request._replace(headers=headers)


def _spoilt(answer: bytes, fault: Fault) -> bytes:
    head, _, body = answer.partition(b"\r\n\r\n")
    match fault:
        case Fault.ANSWER_LOST:
            return b""
        case Fault.ANSWER_TRUNCATED:
            body = body[: len(body) // 2]
        case Fault.ANSWER_CORRUPTED:
            body = _flipped(body)
        case _:
            pass
    return head + b"\r\n\r\n" + body


def _without(answer: bytes, dropped: tuple[str, ...]) -> bytes:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    kept = [line for line in lines if not line.lower().startswith(dropped)]
    return "\r\n".join(kept).encode("latin-1") + b"\r\n\r\n" + body


def _flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def _refusal(request: Request, status: int, code: str, message: str) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    head = f"HTTP/1.1 {status} Refused\r\nContent-Type: application/xml\r\n"
    head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head if request.method == "HEAD" else head + body).encode()
