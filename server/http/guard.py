"""Lets callers in by what a route promises, before the route runs.

The right that a route asks for is stated once, in its promise. The application runs this guard
before every route, the short ways of :mod:`server.http.short_routes` run :func:`let_in` themselves.
"""

from __future__ import annotations

from typing import Any, Final

from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.routes import HTTPRoute

from server.access.auth import Forbidden, Principal, Unauthorized, token_of
from server.access.rights import Right
from server.http.caller import ADMITTED, Admitted, HttpRequest, refuse_ignored, services_of
from server.http.contract import PROMISE, RouteContract

NOBODY: Final[Admitted] = (None, None)


class NoRightStated(Exception):
    """A route states no right, so the application does not start."""


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Let the caller in, or raise Unauthorized, Forbidden, NotFound or BadRequest."""
    promise = handler.opt.get(PROMISE)
    if promise is None:
        if connection.scope.get("method") == "OPTIONS":
            return  # Litestar's own answer, which names methods
        raise Forbidden("nobody may call this")
    assert isinstance(connection, Request)
    await let_in(connection, promise, connection.path_params.get("org"))


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


def require_promises(app: Litestar) -> None:
    """Raise NoRightStated where a route promises nothing, or contradicts its promise."""
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            raise NoRightStated(f"{route.path}: only HTTP routes can state who may call them")
        for handler in route.route_handlers:
            if handler.fn.__module__.startswith("litestar."):
                continue  # its answer to OPTIONS
            methods = ", ".join(sorted(handler.http_methods))
            fault = _fault(
                handler.opt.get(PROMISE), "org" in route.path_parameters, reads=methods == "GET"
            )
            if fault is not None:
                raise NoRightStated(f"{methods} {route.path_format} {fault}")


def _fault(promise: Any, of_org: bool, *, reads: bool) -> str | None:
    """What is wrong with the promise of a route."""
    if not isinstance(promise, RouteContract):
        return "states no right: give it opt=asks(…), any_key(…) or needs_no_key(…)"
    if of_org and not promise.open and promise.right is None:
        return "has an org in its path, but asks for no right there: give it opt=asks(…)"
    if promise.open and promise.right is not None:
        return "asks for a right and needs no key: state one of them"
    if promise.writes is None and not reads:
        return "does not say whether it writes: state writes=True or writes=False"
    if promise.writes and reads:
        return "writes, which a GET may not: give it another method"
    return None
