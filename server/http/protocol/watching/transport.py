"""The transport of a connection, which counts what is written and closes in two steps."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

_RESET: Final = struct.pack("ii", 1, 0)


class MeteredTransport:
    """A transport that counts the bytes written to it, and can close the sending side first.

    A socket that is closed while the client still sends answers it with a reset, which may destroy
    the answer before the client reads it. So :meth:`linger` ends the sending side alone, and the
    owner reads the rest for a while.
    """

    __slots__ = (
        "_close",
        "_is_closing",
        "_transport",
        "_write",
        "abort",
        "closes_late",
        "get_extra_info",
        "lingers",
        "pause_reading",
        "resume_reading",
        "unsent",
        "written",
    )

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._write = transport.write
        self._close = transport.close
        self._is_closing = transport.is_closing
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.unsent = transport.get_write_buffer_size
        self.written = 0
        self.lingers = False
        self.closes_late: Callable[[], bool] = _never
        """Says at a close whether the client still sends a body."""

    @property
    def taken(self) -> int:
        """The bytes that the client's side of the connection has taken so far."""
        return self.written - self.unsent()

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.written += len(data)
        self._write(data)

    def is_closing(self) -> bool:
        """Return whether no more requests are answered."""
        return self.lingers or self._is_closing()

    def close(self) -> None:
        """Close the connection once all is sent; the sending side first if a body is unread."""
        if self.lingers or not self.closes_late():
            self._close()
        elif not self._is_closing():
            self.lingers = True
            self.resume_reading()
            self._transport.write_eof()

    def reset(self) -> None:
        """End the connection at once; the kernel keeps nothing that is unsent."""
        connection: Any = self.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):  # it is closed already
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.abort()


def _never() -> bool:
    return False
