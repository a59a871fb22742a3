"""From a request to its caller and the services; shared by all routes."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import InternalServerException

from ledger.core.sealer import Org
from server.auth import May, Principal, Unauthorized, token_of
from server.http.problems import BadRequest, RequestTimeout
from server.services import Services

HttpRequest = Request[Any, Any, State]


def services_of(request: HttpRequest) -> Services:
    """The services of this process."""
    services: Services = request.app.state.services
    return services


async def principal_of(request: HttpRequest) -> Principal:
    """The caller. Raises Unauthorized."""
    token = token_of(request.scope["headers"])
    if token is None:
        raise Unauthorized("send an API key as 'Authorization: Bearer …' or 'x-api-key: …'")
    authenticator = services_of(request).authenticator
    return authenticator.cached(token) or await authenticator.principal(token)


async def org_of(request: HttpRequest, slug: str, what: May) -> tuple[Org, Principal]:
    """The org of the path and the caller, once the caller may do this there."""
    principal = await principal_of(request)
    return await services_of(request).directory.org(slug, principal, what), principal


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
    except InternalServerException:
        # How Litestar says it; nobody is left to read the answer, and nothing failed here.
        bodies.end(task)
        raise BadRequest("the connection ended before the body did") from None
    except BaseException:
        bodies.end(task)
        raise
    bodies.end(task)
    return body
