"""Request bodies: read in time, bounded, and those of administrative routes of one known shape.

JSON bodies are read after the caller is known and let in, which Litestar's own body
parameters are not; and what JSON can't hold is a problem of the caller, never ours.

One look a second over all bodies under way costs nothing per request; a timer
of its own for each would cost a tenth of an append.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, Final, TypeVar

import msgspec
from litestar.exceptions import InternalServerException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from ledger.core.shares import OrgShares
from ledger.errors import InvalidEvent, QueueFull
from ledger.event import refuse_repeated_names
from ledger.malformed import json_fault, misfit
from server.http.caller import HttpRequest, promise_of, services_of
from server.http.problems import BadRequest, RequestTimeout
from server.trails.services import Services

LIMIT_S: Final = 30.0
POLL_INTERVAL_S: Final = 1.0
SMALL_BYTES: Final = 65_536
"""Bodies up to this size need no room of their own."""
ORG_BYTES: Final = 64 << 20
TOTAL_BYTES: Final = 512 << 20
"""Large bodies that may arrive at once, by what they announce: of one org, of all."""
DRAIN_S: Final = 1.0
DRAIN_BYTES: Final = 64 << 20
MAX_BYTES: Final = 65_536
"""More than any of these bodies needs; set as the limit of their routes."""

T = TypeVar("T")


class BodyReads:
    """The tasks that read a body now, and since when; late ones are cancelled."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self._reading: dict[asyncio.Task[object], float] = {}
        self.room = OrgShares(total=TOTAL_BYTES, of_org=ORG_BYTES, full=_full)
        """Bytes of large bodies, from before they are read until they are parsed."""
        self._late: set[asyncio.Task[object]] = set()

    def begin(self, task: asyncio.Task[object]) -> None:
        """This task starts to read a body."""
        self._reading[task] = time.monotonic()

    def end(self, task: asyncio.Task[object]) -> bool:
        """This task reads no more; True where it was cancelled for being late."""
        self._reading.pop(task, None)
        if task not in self._late:
            return False
        self._late.discard(task)
        return True

    async def watch(self) -> None:
        """Cancel late readers, for ever."""
        while True:
            await asyncio.sleep(min(POLL_INTERVAL_S, self.limit_s / 2))
            oldest = time.monotonic() - self.limit_s
            for task, since in list(self._reading.items()):
                if since < oldest and task not in self._late:
                    self._late.add(task)
                    task.cancel()


def _full(everyone: bool) -> QueueFull:
    whose = "" if everyone else " of this org"
    return QueueFull(
        f"too many large requests{whose} arrive at once; retry shortly", everyone=everyone
    )


def body_reads(_: Services) -> BodyReads:
    """The bodies that this process reads now: made once, by :meth:`Services.part`."""
    return BodyReads()


async def watch_bodies(services: Services) -> None:
    """Give up request bodies that arrive too slowly."""
    await services.part(body_reads).watch()


async def json_body(request: HttpRequest) -> Any:
    """The body as the type that the route promises. Raises BadRequest, naming the field at fault."""
    kind = promise_of(request).body
    assert kind is not None, "a route that reads a body states its type"
    body = await body_of(request)
    if not body.strip():
        raise BadRequest("the body is empty; send a JSON object")
    if len(body) > MAX_BYTES:  # of record ids; reading them must not hold up other requests
        return await asyncio.to_thread(_decode, body, kind)
    return _decode(body, kind)


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        decoded = msgspec.json.decode(body, type=kind)
        refuse_repeated_names(body)
    except msgspec.ValidationError as error:
        said = misfit(error, kind, what="the body")
        raise BadRequest(f"the body does not fit: {said}") from None
    except InvalidEvent as error:
        raise BadRequest(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {json_fault(body, error)}") from None
    return decoded


async def body_of(request: HttpRequest) -> bytes:
    """The whole body; one that arrives too slowly is given up."""
    bodies = services_of(request).part(body_reads)
    task = asyncio.current_task()
    assert task is not None
    bodies.begin(task)
    try:
        body = await request.body()
    except asyncio.CancelledError:
        if not bodies.end(task):
            raise
        task.uncancel()
        raise RequestTimeout(
            f"the body did not arrive within {bodies.limit_s:.0f} s; nothing was written"
        ) from None
    except RequestEntityTooLarge:
        bodies.end(task)
        await _drain(request)
        raise
    except InternalServerException:
        # How Litestar says it; nobody is left to read the answer, and nothing failed here.
        bodies.end(task)
        raise BadRequest("the connection ended before the body did") from None
    except BaseException:
        bodies.end(task)
        raise
    bodies.end(task)
    return body


async def _drain(request: HttpRequest) -> None:
    """Let a client finish sending what is too large.

    One that asked for the connection to be closed would else get a reset while
    it sends, and never see the answer. One that waits to be asked is not asked.
    """
    if any(name == b"expect" for name, _ in request.scope["headers"]):
        return
    drained = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while drained < DRAIN_BYTES:
                event = await request.receive()
                if event["type"] != "http.request" or not event["more_body"]:
                    return
                drained += len(event["body"])
