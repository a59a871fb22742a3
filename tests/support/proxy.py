"""A TCP proxy before PostgreSQL that cuts connections, also in the middle of COMMIT."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from ledger.storage.database import SERVER_ROLE
from tests.support.clusters import Database

COMMITS = (b"COMMIT\x00", b"COMMIT;\x00")  # our COMMIT, and the one of asyncpg's own transactions
CHUNK = 65_536
# ErrorResponse with PANIC, disk full: PostgreSQL's answer if the WAL can't be written.
PANIC = b"SPANIC\x00VPANIC\x00C53100\x00Mcould not write to file: No space left on device\x00\x00"


class CommitFate(Enum):
    """What the proxy does with a COMMIT."""

    NOT = "forwarded, and its answer too"
    BEFORE = "lost before it reached the server"
    AFTER = "carried out, but its answer is lost"
    AT_ONCE = "forwarded, and the line cut without waiting for what becomes of it"
    PANIC = "carried out, but answered with PANIC"


Decide = Callable[[], CommitFate]


class Proxy:
    """Forwards TCP connections to a PostgreSQL socket; calls `decide` at each COMMIT."""

    def __init__(self, database: Database, decide: Decide = lambda: CommitFate.NOT) -> None:
        address = parse_qs(urlsplit(database.server_url).query)
        self._socket = Path(address["host"][0]) / f".s.PGSQL.{address['port'][0]}"
        self._name = database.name
        self.decide = decide
        self.port = 0
        self.commits = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        # A server that closes loses the connections that it has just accepted: they reach `_accept`
        # two turns of the loop later. So it first accepts no more.
        for listener in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(2):
            await asyncio.sleep(0)
        self._server.close()
        self.cut_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # an aborted transport closes its socket in the next turn

    @property
    def url(self) -> str:
        """The database for the server role, through this proxy."""
        return f"postgresql://{SERVER_ROLE}@127.0.0.1:{self.port}/{self._name}"

    def cut_all(self) -> None:
        """Cut all open connections."""
        for writer in list(self._open):
            writer.transport.abort()

    def _accept(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        # asyncio calls this with each connection, so none is open that has no task yet.
        task = asyncio.create_task(self._forward(client, back))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: back.transport.abort())

    async def _forward(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            async with self._upstream() as (server, forth), _tracked(self._open, back, forth):
                line = _Line(self, server, back)
                answers = asyncio.create_task(line.carry_back())
                try:
                    await line.carry_forth(client, forth)
                finally:
                    answers.cancel()

    @asynccontextmanager
    async def _upstream(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


class _Line:
    """One proxied connection."""

    def __init__(
        self, proxy: Proxy, server: asyncio.StreamReader, back: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._server = server
        self._back = back
        self._mute = False
        self._answered = asyncio.Event()

    async def carry_forth(self, client: asyncio.StreamReader, forth: asyncio.StreamWriter) -> None:
        while data := await client.read(CHUNK):
            if not data.endswith(COMMITS):
                forth.write(data)
                await forth.drain()
                continue
            self._proxy.commits += 1
            cut = self._proxy.decide()
            if cut is CommitFate.BEFORE:
                return
            self._mute = cut in (CommitFate.AFTER, CommitFate.PANIC)
            forth.write(data)
            await forth.drain()
            if cut is CommitFate.AT_ONCE:
                return
            if self._mute:
                await self._answered.wait()
                if cut is CommitFate.PANIC:
                    self._back.write(b"E" + (4 + len(PANIC)).to_bytes(4, "big") + PANIC)
                    await self._back.drain()
                return

    async def carry_back(self) -> None:
        with contextlib.suppress(OSError):
            while data := await self._server.read(CHUNK):
                if self._mute:
                    self._answered.set()
                else:
                    self._back.write(data)
                    await self._back.drain()
        self._answered.set()
        self._back.transport.abort()


@asynccontextmanager
async def _tracked(
    where: set[asyncio.StreamWriter], *writers: asyncio.StreamWriter
) -> AsyncIterator[None]:
    where.update(writers)
    try:
        yield
    finally:
        where.difference_update(writers)
