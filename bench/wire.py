"""An HTTP/1.1 client with minimal cost, so that the server dominates the measurement.

Keep-alive connections with one request in flight each and prepared request bytes.
Only the status and Content-Length of an answer are read.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Final, cast

MAX_HEAD_BYTES: Final = 16_384
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END: Final = b"\r\n\r\n"


class BadAnswer(Exception):
    """An unexpected answer, which ends the benchmark."""


class Work:
    """Numbered requests, shared by all connections; ``parts`` makes the parts of each.

    With a ``rate`` in requests per second each request has its time, even if answers are late.
    """

    def __init__(
        self,
        parts: Callable[[int], list[bytes]],
        count: int,
        statuses: tuple[int, ...],
        rate: float = 0,
    ) -> None:
        self.parts = parts
        self.count = count
        self.expected = tuple(b"HTTP/1.1 %d " % status for status in statuses)
        self.latencies_s: list[float] = []
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._taken = 0
        self._rate = rate
        self._began = time.perf_counter()

    def take(self) -> list[bytes] | None:
        """Return the next request, or None after the last."""
        if self._taken == self.count:
            return None
        self._taken += 1
        return self.parts(self._taken - 1)

    def due(self) -> float:
        """Return the perf_counter time at which to send the request taken last; 0: at once."""
        return self._began + (self._taken - 1) / self._rate if self._rate else 0.0

    def done(self, seconds: float) -> None:
        """Record that a request was answered."""
        self.latencies_s.append(seconds)
        if len(self.latencies_s) == self.count and not self.finished.done():
            self.finished.set_result(None)

    def fail(self, reason: str) -> None:
        """End the work with an error."""
        if not self.finished.done():
            self.finished.set_exception(BadAnswer(reason))


class Connection(asyncio.Protocol):
    """One connection: sends a request as soon as the previous one is answered."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._work: Work | None = None
        self._head = b""
        self._missing = 0
        self._started = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass

    def begin(self, work: Work) -> None:
        """Send requests until none is left."""
        self._work = work
        self._next()

    def close(self) -> None:
        """Close the connection."""
        self._work = None
        if self._transport is not None:
            self._transport.close()

    def _next(self) -> None:
        assert self._work is not None
        assert self._transport is not None
        parts = self._work.take()
        if parts is None:
            return
        now, due = time.perf_counter(), self._work.due()
        if due > now:
            asyncio.get_running_loop().call_later(due - now, self._send, parts)
            return
        self._send(parts)
        if due:  # sent late because all connections were busy: that delay counts too
            self._started = due

    def _send(self, parts: list[bytes]) -> None:
        if self._work is None:  # closed meanwhile
            return
        assert self._transport is not None
        self._started = time.perf_counter()
        self._transport.writelines(parts)

    def data_received(self, data: bytes) -> None:
        if self._missing == 0:
            data = self._head + data
            end = data.find(_END)
            if end < 0:
                self._head = data
                if len(data) > MAX_HEAD_BYTES:
                    self._fail(data)
                return
            self._head = b""
            length = _LENGTH.search(data, 0, end)
            assert self._work is not None
            if length is None or not data.startswith(self._work.expected):
                self._fail(data)
                return
            self._missing = end + len(_END) + int(length[1])
        self._missing -= len(data)
        if self._missing == 0 and self._work is not None:
            self._work.done(time.perf_counter() - self._started)
            self._next()

    def _fail(self, data: bytes) -> None:
        if self._work is not None:
            self._work.fail(data[:1_000].decode("utf-8", "replace"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._work is not None:
            self._work.fail(f"the server closed the connection: {exc}")


async def connect(port: int, count: int) -> list[Connection]:
    """Open ``count`` connections to a port of this machine."""
    loop = asyncio.get_running_loop()
    opened = [await loop.create_connection(Connection, "127.0.0.1", port) for _ in range(count)]
    return [connection for _, connection in opened]
