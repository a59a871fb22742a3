"""The transport of a connection, which counts what is written, sends the head of an answer with its
body, and closes in two steps."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

JOINED_BYTES: Final = 65_536
"""Larger bodies are not copied behind their head."""
_RESET: Final = struct.pack("ii", 1, 0)
_HEAD: Final = b"HTTP/1."


class MeteredTransport:
    """A transport that counts the bytes written to it, and can close the sending side first.

    The head of an answer waits for what is written after it in the same turn of the event loop: one
    call of the operating system sends both, where two would be a tenth of the cost of an append.

    A socket that is closed while the client still sends answers it with a reset, which may destroy
    the answer before the client reads it. So :meth:`linger` ends the sending side alone, and the
    owner reads the rest for a while.
    """

    __slots__ = (
        "_call_soon",
        "_close",
        "_head",
        "_is_closing",
        "_transport",
        "_unsent",
        "_write",
        "abort",
        "closes_late",
        "get_extra_info",
        "lingers",
        "pause_reading",
        "resume_reading",
        "written",
    )

    def __init__(
        self, transport: asyncio.Transport, call_soon: Callable[[Callable[[], None]], object]
    ) -> None:
        self._transport = transport
        self._call_soon = call_soon
        self._head: bytes | None = None
        self._write = transport.write
        self._close = transport.close
        self._is_closing = transport.is_closing
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self._unsent = transport.get_write_buffer_size
        self.written = 0
        self.lingers = False
        self.closes_late: Callable[[], bool] = _never
        """Says at a close whether the client still sends a body."""

    @property
    def taken(self) -> int:
        """The bytes that the client's side of the connection has taken so far."""
        return self.written - self.unsent()

    def unsent(self) -> int:
        """Return the number of bytes that wait here to be sent."""
        return self._unsent() + len(self._head or b"")

    def write(self, data: bytes) -> None:
        """Send bytes; the head of an answer at the latest when this turn of the event loop ends."""
        self.written += len(data)
        head = self._head
        if head is not None:
            self._head = None
            if len(data) <= JOINED_BYTES:
                data = head + data
            else:
                self._write(head)
        elif data[: len(_HEAD)] == _HEAD:
            self._head = data
            self._call_soon(self._send_head)
            return
        self._write(data)

    def _send_head(self) -> None:
        head, self._head = self._head, None
        if head is not None and not self._is_closing():
            self._write(head)

    def is_closing(self) -> bool:
        """Return whether no more requests are answered."""
        return self.lingers or self._is_closing()

    def close(self) -> None:
        """Close the connection once all is sent; the sending side first if a body is unread."""
        self._send_head()
        if self.lingers or not self.closes_late():
            self._close()
        elif not self._is_closing():
            self.lingers = True
            self.resume_reading()
            self._transport.write_eof()

    def reset(self) -> None:
        """End the connection at once; the kernel keeps nothing that is unsent."""
        self._head = None
        connection: Any = self.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):  # it is closed already
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.abort()


def _never() -> bool:
    return False
