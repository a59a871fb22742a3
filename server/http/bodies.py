"""Reads request bodies: in time, bounded, and for administrative routes of one known shape.

JSON bodies are read after the caller is admitted, unlike Litestar's own body parameters; and a
body that is not valid JSON is answered with 400, never with 500.

One poll a second over all bodies being read costs nothing per request; one timer per body would
cost a tenth of an append.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import Iterable
from typing import Any, Final, TypeVar

import msgspec
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from ledger.core.shares import OrgShares
from ledger.errors import InvalidEvent, QueueFull
from ledger.event import refuse_repeated_names
from ledger.malformed import json_fault, misfit
from server.http.caller import HttpRequest, contract_of, headers_of, require_current, services_of
from server.http.problems import BadRequest, RequestTimeout
from server.trails.services import Services

LIMIT_S: Final = 30.0
POLL_INTERVAL_S: Final = 1.0
SMALL_BYTES: Final = 65_536
"""Bodies up to this size reserve no memory."""
ORG_BYTES: Final = 64 << 20
TOTAL_BYTES: Final = 512 << 20
"""Announced bytes of large bodies that may arrive at once: for one org, for all."""
DRAIN_S: Final = 1.0
DRAIN_BYTES: Final = 64 << 20
BODY: Final = "body"
"""The key in a request's state of its body, once it is read."""
MAX_BYTES: Final = 65_536
"""More than any of these bodies needs; the limit of their routes."""

# PostgreSQL's text can't hold it. A backslash before it may be escaped itself.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

T = TypeVar("T")


class BodyReads:
    """The tasks that read a body, with their start times; late ones are cancelled."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self._reading: dict[asyncio.Task[object], float] = {}
        self.room = OrgShares(total=TOTAL_BYTES, of_org=ORG_BYTES, full=_full)
        """Bytes of large bodies, from before they are read until they are parsed."""
        self._late: set[asyncio.Task[object]] = set()

    def begin(self, task: asyncio.Task[object]) -> None:
        """Record that a task starts to read a body."""
        self._reading[task] = time.monotonic()

    def end(self, task: asyncio.Task[object]) -> bool:
        """Record that a task stopped reading; return True if it was cancelled for being late."""
        self._reading.pop(task, None)
        if task not in self._late:
            return False
        self._late.discard(task)
        return True

    async def watch(self) -> None:
        """Cancel late readers; runs until cancelled."""
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
    """Return the record of bodies being read in this process; made once, by :meth:`Services.part`."""
    return BodyReads()


async def watch_bodies(services: Services) -> None:
    """Cancel request bodies that arrive too slowly."""
    await services.part(body_reads).watch()


async def json_body(request: HttpRequest) -> Any:
    """Return the body as the type in the route's contract. Raises BadRequest, naming the field."""
    kind = contract_of(request).body
    assert kind is not None, "a route that reads a body states its type"
    body = await body_of(request)
    if not body.strip():
        raise BadRequest("the body is empty; send a JSON object")
    if len(body) > MAX_BYTES:  # of record ids; decoding must not delay other requests
        return await asyncio.to_thread(decoded, body, kind)
    return decoded(body, kind)


def decoded(body: bytes, kind: type[T]) -> T:
    """Return a JSON body as this type. Raises BadRequest, naming the field."""
    try:
        value = msgspec.json.decode(body, type=kind)
        refuse_repeated_names(body)
    except msgspec.ValidationError as error:
        reason = misfit(error, kind, what="the body")
        raise BadRequest(f"the body is not valid: {reason}") from None
    except InvalidEvent as error:
        raise BadRequest(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {json_fault(body, error)}") from None
    if _NUL.search(body) and (name := _holder_of_nul(msgspec.to_builtins(value))) is not None:
        raise BadRequest(
            f"{name} has a control character, U+0000, which can't be stored; leave it out"
        )
    return value


def _holder_of_nul(value: object, name: str = "") -> str | None:
    """Return the name of the first text with U+0000, as in ``filter.actor`` or ``names[2]``."""
    parts: Iterable[tuple[str, object]] = ()
    if isinstance(value, dict):
        parts = ((f"{name}.{key}".lstrip("."), part) for key, part in value.items())
    elif isinstance(value, list):
        parts = ((f"{name}[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, str) and "\0" in value:
        return name
    return next((found for at, part in parts if (found := _holder_of_nul(part, at))), None)


async def body_of(request: HttpRequest) -> bytes:
    """Return the whole body, read once. Raises RequestTimeout for one that arrives too slowly."""
    state = request.scope["state"]
    if BODY in state:
        read: bytes = state[BODY]
        return read
    bodies = services_of(request).part(body_reads)
    task = asyncio.current_task()
    assert task is not None
    bodies.begin(task)
    try:
        body = await _received(request)
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
    except BaseException:
        bodies.end(task)
        raise
    bodies.end(task)
    require_current(request)  # a body may have taken half a minute
    state[BODY] = body
    return body


async def _received(request: HttpRequest) -> bytes:
    """Receive the body. Raises RequestEntityTooLarge, or BadRequest if the connection ended.

    Litestar's own reader does the same at the cost of a tenth of an append.
    """
    limit = request.route_handler.resolve_request_max_body_size() or math.inf
    if announced_bytes(request, 0) > limit:
        raise RequestEntityTooLarge
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        event = await request.receive()
        if event["type"] != "http.request":
            # No client reads the answer, nothing failed.
            raise BadRequest("the connection ended before the whole body arrived")
        parts.append(event["body"])
        size += len(event["body"])
        if size > limit:
            raise RequestEntityTooLarge
        more = event["more_body"]
    return parts[0] if len(parts) == 1 else b"".join(parts)


def announced_bytes(request: HttpRequest, otherwise: int) -> int:
    """Return the size of the body that the client announced; ``otherwise`` if it did not."""
    length = headers_of(request).get(b"content-length", b"")
    return int(length) if length.isdigit() else otherwise


async def _drain(request: HttpRequest) -> None:
    """Let a client finish sending a body that is too large.

    A client that requested to close the connection would otherwise get a reset while it sends,
    and never read the answer. A client that waits for "100 Continue" does not get it.
    """
    if b"expect" in headers_of(request):
        return
    drained = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while drained < DRAIN_BYTES:
                event = await request.receive()
                if event["type"] != "http.request" or not event["more_body"]:
                    return
                drained += len(event["body"])
