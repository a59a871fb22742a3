"""The short way in for appends: past Litestar's routing, to the same route function.

Finding the route, reading its parameters and wrapping its answer cost as much
as the rest of a single append. Everything else, and every append whose path is
spelt in another way, goes through the application; both ways run the same code
from the route function on and answer the same problems.
"""

from __future__ import annotations

from typing import Final

from litestar import Litestar, Request
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.types import Receive, Scope, Send

from ledger.errors import QuireError
from server.http.appends import append_entries
from server.http.caller import HttpRequest
from server.http.problems import on_http_error, on_quire_error, on_unexpected

BEFORE: Final = "/v1/orgs/"
AFTER: Final = "/entries"


class Door:
    """The application with the short way in front of it; an ASGI application itself."""

    def __init__(self, app: Litestar) -> None:
        self.app = app
        self._append = append_entries.fn
        found = app.get_handler_index_by_name("append_entries")
        assert found is not None, "the application has the append route"
        self._handler = found["handler"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] == ScopeType.HTTP and scope["method"] == "POST":
            path = scope["path"]
            slug = path[len(BEFORE) : -len(AFTER)]
            if path.startswith(BEFORE) and path.endswith(AFTER) and slug and "/" not in slug:
                await self._take(slug, scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _take(self, slug: str, scope: Scope, receive: Receive, send: Send) -> None:
        scope["litestar_app"] = self.app
        scope["route_handler"] = self._handler
        request: HttpRequest = Request(scope, receive, send)
        try:
            answer = await self._append(request, slug)
        except QuireError as error:
            answer = on_quire_error(request, error).to_asgi_response(None, request)
        except HTTPException as error:
            answer = on_http_error(request, error).to_asgi_response(None, request)
        except Exception as error:  # noqa: BLE001 - the last handler, as the application has one
            answer = on_unexpected(request, error).to_asgi_response(None, request)
        await answer(scope, receive, send)
