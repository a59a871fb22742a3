"""A bare HTTP/1.1 connection, which may also be used badly."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Self


class HttpReply(NamedTuple):
    """Status and body of an answer."""

    status: int
    body: bytes


class Wire:
    """One connection that is kept alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to the server on this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 24))

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        key: str = "",
        kind: str = "application/json",
    ) -> HttpReply:
        """Send a request and read its answer. Raises OSError, EOFError."""
        self.writer.write(head(method, path, len(body), key, kind) + body)
        await self.writer.drain()
        return await self.answer()

    async def answer(self) -> HttpReply:
        """Read an answer with a length, or without a body."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
        body = await self.reader.readexactly(int(fields.get(b"content-length", b"0")))
        return HttpReply(int(lines[0].split()[1]), body)

    def close(self) -> None:
        """End the connection at once."""
        self.writer.transport.abort()


def head(method: str, path: str, size: int, key: str = "", kind: str = "application/json") -> bytes:
    """Return the head of a request."""
    lines = [f"{method} {path} HTTP/1.1", "host: soak", f"content-type: {kind}"]
    lines += [f"content-length: {size}"] if method == "POST" else []
    lines += [f"x-api-key: {key}"] if key else []
    return "\r\n".join([*lines, "", ""]).encode()
