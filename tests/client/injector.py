"""A fault injector: a TCP server that gives one scripted answer to each request.

It replaces Quire only for faults that a real server can't be made to show: a
connection cut in the middle of an answer, a 503 exactly once, a late answer.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

Fault = Callable[[asyncio.StreamWriter], Awaitable[None]]
RECEIPT = {
    "record_id": "rec_1",
    "seq": 0,
    "entry_hash": "ab" * 32,
    "previous_hash": None,
    "anchored_at": "2026-01-02T03:04:05.678901Z",
}


@dataclass
class Seen:
    """One received request."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Injector:
    """Runs the steps of ``script`` in order, one for each request, and records the requests."""

    script: list[bytes | Fault]
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    open: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self.open[connection] = writer
        try:
            while True:
                self.seen.append(await _request(reader))
                step = self.script.pop(0)
                if not isinstance(step, bytes):
                    await step(writer)
                    return
                writer.write(step)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> Seen:
    line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {
        name.lower(): value for name, value in (text.split(": ", 1) for text in rest if text)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Seen(line, headers, body)


@asynccontextmanager
async def injecting(*script: bytes | Fault) -> AsyncIterator[Injector]:
    injector = Injector(list(script))
    tcp = await asyncio.start_server(injector.serve, "127.0.0.1", 0)
    injector.url = f"http://127.0.0.1:{tcp.sockets[0].getsockname()[1]}"
    try:
        yield injector
    finally:
        tcp.close()
        for writer in injector.open.values():
            writer.close()
        await asyncio.gather(*injector.open)


def answer(status: int, document: object, *headers: str, media: str = "application/json") -> bytes:
    body = document if isinstance(document, bytes) else msgspec.json.encode(document)
    lines = [f"HTTP/1.1 {status} Status", f"content-length: {len(body)}", f"content-type: {media}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def problem(status: int, slug: str, *headers: str, **extras: object) -> bytes:
    document = {"type": f"https://quire.dev/problems/{slug}", "title": slug, "status": status}
    return answer(status, document | extras, *headers, media="application/problem+json")


async def cut_before_answering(writer: asyncio.StreamWriter) -> None:
    """Cut the connection after the request has arrived."""


async def cut_within_the_answer(writer: asyncio.StreamWriter) -> None:
    writer.write(answer(201, RECEIPT)[:-20])
    await writer.drain()


async def answer_too_late(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(1)
