"""Routes appends and reads of logs directly, without Litestar's routing.

Finding the route, reading its parameters and wrapping its answer cost as much as the rest of a
single append, and more than a tile. All other requests, and paths in another spelling, go through
the application; both run the same route function and answer the same problems.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from litestar import Litestar, Request
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from ledger.errors import QuireError
from server.access.callers.blocked import AddressBlocked
from server.access.directory import NotFound
from server.access.limits.rules import RateLimited
from server.access.live import LiveRequest
from server.addresses import networks
from server.http.caller import LIVE, HttpRequest, caller_of, let_in, note_refusal
from server.http.contract import CONTRACT, RouteContract
from server.http.operators import PRIVATE_PATHS, is_private
from server.http.problems import (
    MEDIA_TYPE,
    NO_PATH,
    document,
    limited,
    on_http_error,
    on_quire_error,
    on_unexpected,
    problem_of,
)
from server.http.protocol.address import PROXY_RULES, ProxyRules, address_of
from server.http.protocol.bytes_response import BytesResponse
from server.http.protocol.loop_shares import LOOP_SHARES, LoopShares
from server.http.protocol.reads import HeadersOnly, answer_options, methods_of
from server.http.routes import log
from server.http.routes.appending import appends
from server.metrics import BLOCKED_REQUESTS
from server.settings import Settings

ORGS: Final = "/v1/orgs/"
ENTRIES: Final = "/entries"
LOG: Final = "/log/"
ANCHORS: Final = "/v1/log/"
CHECKPOINT: Final = "checkpoint"
TILE: Final = "tile/"
ADD: Final = "add"
LIFESPAN: Final = "lifespan"
SETTINGS: Final = "settings"
"""The key in the application's state of its settings."""


class ShortRoute(NamedTuple):
    """A route that is called directly: its function, its handler for Litestar, its contract."""

    run: Callable[..., Awaitable[ASGIApp]]
    handler: Any
    contract: RouteContract


class ShortRoutes:
    """The application with the short routes in front of it; an ASGI application itself."""

    def __init__(self, app: Litestar) -> None:
        self.app = app
        self._settings: Settings = app.state[SETTINGS]
        self._serves_less = self._settings.metrics_port is not None
        self._shares = LoopShares()
        self._append = self._short(appends.append_entries)
        self._add = self._short(log.add_to_log)
        self._checkpoint = self._short(log.org_checkpoint)
        self._tile = self._short(log.org_tile)
        self._anchor = self._short(log.anchor_checkpoint)
        self._anchor_tile = self._short(log.anchor_tile)

    def _short(self, route: HTTPRouteHandler) -> ShortRoute:
        found = self.app.get_handler_index_by_name(route.name or "")
        assert found is not None, "the application has this route"
        handler = found["handler"]
        return ShortRoute(route.fn, handler, handler.opt[CONTRACT])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event; a request in its caller's share of the loop."""
        if scope["type"] != ScopeType.HTTP:
            await self._serve(scope, receive, send)
            return
        refused = self._blocked(scope)
        if refused is not None:
            await refused(scope, receive, HeadersOnly(send) if scope["method"] == "HEAD" else send)
            return
        begun = self._shares.enter(*caller_of(scope, self.app.state.services))
        if begun is not None:
            await begun
        await self._serve(scope, receive, send)

    def _blocked(self, scope: Scope) -> ASGIApp | None:
        """Return the answer to a blocked address, in front of everything; None to all others.

        Whoever calls by the private listener is let in: it has nothing but health and metrics.
        """
        services = self.app.state.services
        error = services.blocked.refusal(address_of(scope))
        if error is None or (self._serves_less and is_private(scope, self._settings)):
            return None
        BLOCKED_REQUESTS.inc()
        note_refusal(Request(scope), services, error)
        return _refused(error)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind: str = scope["type"]
        if scope["type"] == ScopeType.HTTP:
            path, method = scope["path"], scope["method"]
            if self._serves_less and not self._is_served(scope, path):
                await _nothing_here(scope, receive, send)
                return
            if method == "POST":
                slug = path[len(ORGS) : -len(ENTRIES)]
                if path.startswith(ORGS) and path.endswith(ENTRIES) and slug and "/" not in slug:
                    await self._call(self._append, (slug,), scope, receive, send)
                    return
            elif method == "HEAD":
                method = "GET"
                scope = {**scope, "method": method}
                send = HeadersOnly(send)
            elif method == "OPTIONS":
                methods = methods_of(self.app, path)
                if methods is not None:
                    await answer_options(methods, send)
                    return
            found = self._of_log(method, path) if LOG in path else None
            if found is not None:
                await self._call(*found, scope, receive, send)
                return
        elif kind == LIFESPAN:
            # uvicorn copies this state to the connections and to each request.
            state = scope.setdefault("state", {})
            state[PROXY_RULES] = proxy_rules(self._settings)
            state[LOOP_SHARES] = self._shares
        await self._through_app(scope, receive, send)

    async def _through_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; a request that is broken off ends with the reason, or nothing more."""
        started = False

        def sending(message: Any) -> Awaitable[None]:
            nonlocal started
            started = True
            return send(message)

        try:
            await self.app(scope, receive, sending)
        except asyncio.CancelledError:
            live: LiveRequest | None = scope.get("state", {}).get(LIVE)
            task = asyncio.current_task()
            if live is None or live.ended is None or task is None:
                raise
            task.uncancel()
            if not started:
                await _refused(live.ended)(scope, receive, send)

    def _is_served(self, scope: Scope, path: str) -> bool:
        """Return whether the listener of a request serves a path: the private one serves few."""
        return path in PRIVATE_PATHS or not is_private(scope, self._settings)

    def _of_log(self, method: str, path: str) -> tuple[ShortRoute, tuple[str, ...]] | None:
        """Return the route of a log's resource, and the arguments of its function."""
        if path.startswith(ORGS):
            slug, _, resource = path[len(ORGS) :].partition(LOG)
            if not slug or "/" in slug:
                return None
            place: tuple[str, ...] = (slug,)
            checkpoint, tile = self._checkpoint, self._tile
        elif path.startswith(ANCHORS):
            resource, place = path[len(ANCHORS) :], ()
            checkpoint, tile = self._anchor, self._anchor_tile
        else:
            return None
        if method == "GET" and resource == CHECKPOINT:
            return checkpoint, place
        if method == "GET" and resource.startswith(TILE):
            return tile, (*place, resource[len(TILE) :])
        if method == "POST" and resource == ADD and place:
            return self._add, place
        return None

    async def _call(
        self,
        route: ShortRoute,
        arguments: tuple[str, ...],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        scope["litestar_app"] = self.app
        scope.setdefault("state", {})
        scope["route_handler"] = route.handler
        request: HttpRequest = Request(scope, receive, send)
        try:
            await let_in(request, route.contract, arguments[0] if arguments else None)
            answer = await route.run(request, *arguments)
        except RateLimited as error:
            answer = limited(request, error)
        except QuireError as error:
            answer = on_quire_error(request, error).to_asgi_response(None, request)
        except HTTPException as error:
            answer = on_http_error(request, error).to_asgi_response(None, request)
        except Exception as error:  # noqa: BLE001 - the last handler, like the application's
            answer = on_unexpected(request, error).to_asgi_response(None, request)
        await answer(scope, receive, send)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 404 without a look at the application."""
    await _refused(NotFound(NO_PATH))(scope, receive, send)


def _refused(error: QuireError) -> BytesResponse:
    """Return the answer to an error outside of any route."""
    kind = problem_of(type(error))
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if kind.status == 401:
        headers = ((b"www-authenticate", b"Bearer"),)
    elif isinstance(error, AddressBlocked):
        headers = ((b"retry-after", b"%d" % error.retry_after),)
    body = document(kind, str(error))
    return BytesResponse(kind.status, body, headers, MEDIA_TYPE.encode())


def proxy_rules(settings: Settings) -> ProxyRules:
    """Return the proxies whose word about the client's address is taken."""
    return ProxyRules(networks(settings.trusted_proxies), settings.proxy_header.encode())
