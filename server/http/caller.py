"""From a request to its caller and the services; callers are let in by what a route promises.

The right that a route asks for is stated once, in its promise. The application runs
:func:`guard` before every route, the short ways of :mod:`server.http.short_routes` run
:func:`let_in` themselves.
"""

from __future__ import annotations

from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers.base import BaseRouteHandler
from litestar.params import QueryParameter

from ledger.core.org import OrgFacts
from server.access.auth import Forbidden, Principal, Unauthorized, token_of
from server.access.rights import Right
from server.http.contract import ORG, PROMISE, RouteContract
from server.http.problems import BadRequest
from server.trails.services import Services

HttpRequest = Request[Any, Any, State]

ADMITTED: Final = "admitted"
"""Where the guard leaves whom it let in, in the state of a request."""

Admitted = tuple[OrgFacts | None, Principal | None]
"""Whom the guard let in, and to which org: neither for an open route.

There is no principal where the org's log is public and the route needs no key for that. A plain
tuple, as one is made for every request.
"""

NOBODY: Final[Admitted] = (None, None)


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Let the caller in, or raise Unauthorized, Forbidden, NotFound or BadRequest."""
    promise = handler.opt.get(PROMISE)
    if promise is None:
        if connection.scope.get("method") == "OPTIONS":
            return  # Litestar's own answer, which names methods
        raise Forbidden("nobody may call this")
    assert isinstance(connection, Request)
    await let_in(connection, promise, connection.path_params.get(ORG))


async def let_in(request: HttpRequest, promise: RouteContract, slug: str | None) -> None:
    """Leave whom the route lets in, and to which org, in the state of the request."""
    state = request.scope["state"]
    if promise.open:
        state[ADMITTED] = NOBODY
        return
    directory = services_of(request).directory
    if promise.public and slug is not None:
        org = await directory.public(slug)
        if org is not None:
            refuse_ignored(request)
            state[ADMITTED] = org, None
            return
    principal = await _principal(request)
    right = promise.right
    if slug is not None and right is not None:
        state[ADMITTED] = await directory.org(slug, principal, right), principal
        return
    if right is not None:
        _require(principal, right)
    state[ADMITTED] = None, principal


async def _principal(request: HttpRequest) -> Principal:
    """The caller. Raises Unauthorized."""
    token = token_of(request.scope["headers"])
    if token is None:
        raise Unauthorized("send an API key as 'Authorization: Bearer …' or 'x-api-key: …'")
    authenticator = services_of(request).authenticator
    principal = authenticator.cached(token) or await authenticator.principal(token)
    refuse_ignored(request)
    return principal


def _require(principal: Principal, right: Right) -> None:
    if not principal.may(right):
        raise Forbidden(f"a {principal.role} key may not {right}")


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
