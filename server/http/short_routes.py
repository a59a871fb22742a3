"""Routes appends and reads of logs directly, without Litestar's routing.

Finding the route, reading its parameters and wrapping its answer cost as much as the rest of a
single append, and more than a tile. All other requests, and paths in another spelling, go through
the application; both run the same route function and answer the same problems.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from litestar import Litestar, Request
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from ledger.errors import QuireError
from server.http.caller import HttpRequest, let_in
from server.http.contract import CONTRACT, RouteContract
from server.http.problems import on_http_error, on_quire_error, on_unexpected
from server.http.protocol.reads import HeadersOnly, answer_options, methods_of
from server.http.routes import appends, log

ORGS: Final = "/v1/orgs/"
ENTRIES: Final = "/entries"
LOG: Final = "/log/"
ANCHORS: Final = "/v1/log/"
CHECKPOINT: Final = "checkpoint"
TILE: Final = "tile/"
ADD: Final = "add"


class ShortRoute(NamedTuple):
    """A route that is called directly: its function, its handler for Litestar, its contract."""

    run: Callable[..., Awaitable[ASGIApp]]
    handler: Any
    contract: RouteContract


class ShortRoutes:
    """The application with the short routes in front of it; an ASGI application itself."""

    def __init__(self, app: Litestar) -> None:
        self.app = app
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
        """Serve one connection event."""
        if scope["type"] == ScopeType.HTTP:
            path, method = scope["path"], scope["method"]
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
        await self.app(scope, receive, send)

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
        except QuireError as error:
            answer = on_quire_error(request, error).to_asgi_response(None, request)
        except HTTPException as error:
            answer = on_http_error(request, error).to_asgi_response(None, request)
        except Exception as error:  # noqa: BLE001 - the last handler, like the application's
            answer = on_unexpected(request, error).to_asgi_response(None, request)
        await answer(scope, receive, send)
