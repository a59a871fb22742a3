"""From a request to its caller and the services; shared by all routes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import InternalServerException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.params import QueryParameter

from ledger.core.org import OrgFacts
from server.access.auth import Principal
from server.http.contract import PROMISE, RouteContract
from server.http.problems import BadRequest, RequestTimeout
from server.trails.services import Services

HttpRequest = Request[Any, Any, State]

DRAIN_S: Final = 1.0
DRAIN_BYTES: Final = 64 << 20


ADMITTED: Final = "admitted"
"""Where the guard leaves whom it let in, in the state of a request."""


Admitted = tuple[OrgFacts | None, Principal | None]
"""Whom the guard let in, and to which org: neither for an open route.

There is no principal where the org's log is public and the route needs no key for that. A plain
tuple, as one is made for every request.
"""


def services_of(request: HttpRequest) -> Services:
    """The services of this process."""
    services: Services = request.app.state.services
    return services


def promise_of(request: HttpRequest) -> RouteContract:
    """What the route of this request promises."""
    promise: RouteContract = request.route_handler.opt[PROMISE]
    return promise


def principal_of(request: HttpRequest) -> Principal:
    """The caller, whom the guard let in."""
    _, principal = _admitted(request)
    assert principal is not None, "this route needs a key"
    return principal


def org_of(request: HttpRequest, slug: str) -> tuple[OrgFacts, Principal]:
    """The org of the path and the caller, whom the guard let in there."""
    org, principal = _admitted(request)
    assert org is not None, "this route has an org in its path"
    assert org.slug == slug, "this is the org of the path"
    assert principal is not None, "this route needs a key"
    return org, principal


def log_of(request: HttpRequest, slug: str) -> tuple[OrgFacts, bool]:
    """The org of the path, and whether its log is public: read without a key."""
    org, principal = _admitted(request)
    assert org is not None, "this route has an org in its path"
    assert org.slug == slug, "this is the org of the path"
    return org, principal is None


def _admitted(request: HttpRequest) -> Admitted:
    admitted: Admitted = request.scope["state"][ADMITTED]
    return admitted


def refuse_unknown(request: HttpRequest, known: frozenset[str]) -> None:
    """Raise BadRequest for a query parameter that is not known: a misspelt filter finds all."""
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        names = f"known: {', '.join(sorted(known))}" if known else "none is known"
        raise BadRequest(f"{unknown[0][:64]!r} is no query parameter here; {names}")


def refuse_ignored(request: HttpRequest) -> None:
    """Raise BadRequest where a route that writes would ignore a part of what it was asked.

    It might be a part of a name that was not percent-encoded. The routes' own signatures say
    what they know; one that ``reads_query`` does so itself.
    """
    if not request.scope["query_string"]:
        return
    promise = promise_of(request)
    if not promise.writes or promise.reads_query:
        return
    handler = request.route_handler
    known = {
        definition.name or name
        for name, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(definition := field.kwarg_definition, QueryParameter)
    }
    refuse_unknown(request, frozenset(known))
    if not request.query_params:
        raise BadRequest("the query of this request holds no parameter; leave it out")


async def body_of(request: HttpRequest) -> bytes:
    """The whole body; one that arrives too slowly is given up."""
    bodies = services_of(request).bodies
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
