"""A bounded pool of connections that works with as many as the database allows.

A role, a database, a cluster or a pooler may allow fewer connections than the pool's size. A
caller then waits, for a bounded time, for an open connection; the pool retries to open more at
growing intervals.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import asyncpg

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[Any]

IDLE_S: Final = 300.0
"""A connection that is idle for this long is closed."""
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 30.0
HANDOVER_S: Final = 2.0
"""A pool that gave up its last connection for another pool retries after this time."""
NO_MORE: Final = (
    asyncpg.TooManyConnectionsError,
    # PgBouncer's "no more connections allowed (max_client_conn)".
    asyncpg.ProtocolViolationError,
)


UNFIT: Final = (
    asyncio.CancelledError,
    OSError,  # and TimeoutError
    # "Another operation is in progress": the next user of the connection would get it too.
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""After these errors the state of a connection is unknown, so it is not used again."""


class PoolClosed(asyncpg.InterfaceError):
    """The pool was closed while a connection was requested."""

    def __init__(self) -> None:
        super().__init__("the pool of connections is closed")


class Pool:
    """At most ``size`` connections, which ``opener`` opens when they are needed.

    ``kept``: the number of connections that stay open when idle. ``lender``: another pool of the
    same database, which gives up a connection when this pool has none and can't open one.
    """

    def __init__(
        self,
        opener: Callable[[], Awaitable[Connection]],
        size: int,
        *,
        kept: int = 1,
        lender: Pool | None = None,
    ) -> None:
        self._opener = opener
        self._lender = lender
        self._size = size
        self._kept = kept
        self._idle: deque[tuple[Connection, float]] = deque()  # last used on the right
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._in_use: set[Connection] = set()
        self._opening = 0
        self._pause_s = 0.0
        self._grow_at = 0.0
        self._refusal: BaseException | None = None
        self._to_give_up = 0
        self._closed = False

    @property
    def open_count(self) -> int:
        """The number of open connections, idle or in use."""
        return len(self._idle) + len(self._in_use)

    @property
    def room(self) -> int:
        """The number of connections that can be had now: fewer than ``size`` after a refusal."""
        if self._refusal is None or time.monotonic() >= self._grow_at:
            return self._size
        return max(1, self.open_count + self._opening)

    async def fill(self) -> None:
        """Open the connections that are kept. Raises the opener's errors."""
        while self.open_count < self._kept:
            self._put(await self._opener())

    @asynccontextmanager
    async def connection(self, timeout_s: float) -> AsyncIterator[Connection]:
        """Use a connection in the block. Raises TimeoutError, or the opener's errors."""
        connection = await self.acquire(timeout_s)
        try:
            yield connection
        except UNFIT:
            connection.terminate()  # its statement may still run
            raise
        finally:
            self.release(connection)

    async def acquire(self, timeout_s: float) -> Connection:
        """Return a connection, to be released. Raises TimeoutError, or the opener's errors."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self._closed:
                raise PoolClosed
            connection = self._take_idle()
            if connection is None and self._may_grow():
                connection = await self._open(deadline - time.monotonic())
            if connection is None:
                connection = await self._wait(deadline)
            if connection is not None:
                self._in_use.add(connection)
                return connection

    def _take_idle(self) -> Connection | None:
        self._drop_idle()
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                return connection
            connection.terminate()
        return None

    def _may_grow(self) -> bool:
        return (
            self.open_count + self._opening < self._size
            and time.monotonic() >= self._grow_at
            and not (self._refusal and self._opening)  # after a refusal, one caller retries
        )

    async def _open(self, timeout_s: float) -> Connection | None:
        """Open a connection; None if the database allows no more, but waiting may help."""
        self._opening += 1
        try:
            async with asyncio.timeout(max(timeout_s, 0.01)):
                connection = await self._opener()
        except NO_MORE as error:
            self._refused(error)
            return None
        finally:
            self._opening -= 1
            self._wake(None)
        self._refusal, self._pause_s = None, 0.0
        if self._closed:
            connection.terminate()
            raise PoolClosed
        return connection

    def _refused(self, error: BaseException) -> None:
        now = time.monotonic()
        self._refusal = error
        if now < self._grow_at:
            return  # a concurrent attempt was refused already
        self._pause_s = min(max(self._pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        if not self.open_count:
            self._pause_s = FIRST_PAUSE_S  # no connection will be released
            if self._lender is not None:
                self._lender.give_up_one()
        self._grow_at = now + self._pause_s

    async def _wait(self, deadline: float) -> Connection | None:
        """Wait for a released connection; None: check again. Raises the last refusal."""
        now = time.monotonic()
        if now >= deadline:
            if self._refusal is not None:
                raise self._refusal
            raise TimeoutError(f"all {self._size} connections are in use")
        until = min(deadline, self._grow_at) if self._grow_at > now else deadline
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait([turn], timeout=until - now)
        except asyncio.CancelledError:
            if turn.done():
                self._pass_on(turn.result())
            raise
        finally:
            if not turn.done():  # a turn that has come was taken out by the one who woke it
                self._waiting.remove(turn)
        return turn.result() if turn.done() else None

    def _pass_on(self, connection: Connection | None) -> None:
        if connection is None:
            self._wake(None)
        else:
            self.release(connection)

    def release(self, connection: Connection) -> None:
        """Return a connection to the pool; it is closed if it is still in a transaction."""
        self._in_use.discard(connection)
        if self._to_give_up:
            self._to_give_up -= 1
            connection.terminate()
        elif not connection.is_closed() and connection.is_in_transaction():
            connection.terminate()
        self._put(connection)

    def give_up_one(self) -> None:
        """Close a connection for another pool, at once or when the next one is released."""
        if self._idle:
            self._idle.popleft()[0].terminate()
        elif len(self._in_use) > 1:
            self._to_give_up = 1
        # A pool without connections retries soon: the other pool has its connection by then.
        self._pause_s = LONGEST_PAUSE_S if self.open_count else HANDOVER_S
        self._grow_at = time.monotonic() + self._pause_s

    def _put(self, connection: Connection) -> None:
        """Hand a connection to the longest waiting caller, or keep it idle."""
        if self._closed or connection.is_closed():
            connection.terminate()
            self._wake(None)
        elif not self._wake(connection):
            self._idle.append((connection, time.monotonic()))

    def _wake(self, connection: Connection | None) -> bool:
        """Wake the longest waiting caller; False if there is none."""
        if not self._waiting:
            return False
        if connection is not None:
            self._in_use.add(connection)
        self._waiting.popleft().set_result(connection)
        return True

    def _drop_idle(self) -> None:
        oldest = time.monotonic() - IDLE_S
        while self._idle and self.open_count > self._kept and self._idle[0][1] < oldest:
            self._idle.popleft()[0].terminate()

    async def close(self, timeout_s: float) -> None:
        """Close all connections; those in use, or not closed in time, are terminated."""
        self._closed = True
        while self._wake(None):
            pass
        idle = [connection for connection, _ in self._idle]
        self._idle.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                closing = (connection.close() for connection in idle)
                await asyncio.gather(*closing, return_exceptions=True)
                while self._in_use:  # noqa: ASYNC110 - bounded by the timeout
                    await asyncio.sleep(0.01)
        for connection in [*idle, *self._in_use]:
            connection.terminate()
