"""Answers HEAD as GET without the body (RFC 9110, section 9.3.2), and names it in OPTIONS and Allow.

No route declares HEAD: a HEAD request runs the route of GET until its response has begun.
"""

from __future__ import annotations

from typing import Any, Final, cast

from litestar import Litestar
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.routes import HTTPRoute
from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Method, Send
from litestar.utils import normalize_path

WHOLE_SERVER: Final = "/*"
"""The path under which ``OPTIONS *`` is answered."""

_NO_METHOD: Final = cast("Method", "-")


class HeadersOnly:
    """Sends the head of a response and drops the rest; a stream ends after its head."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Any) -> None:
        """Send or drop one message of the application."""
        if message["type"] == "http.response.start":
            await self._send(message)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def allowed(methods: str) -> str:
    """Return the value of an Allow header, with HEAD added if it has GET."""
    names = {name.strip() for name in methods.split(",")}
    return ", ".join(sorted(names | ({"HEAD"} if "GET" in names else set())))


def methods_of(app: Litestar, path: str) -> str | None:
    """Return the methods of a path as the value of an Allow header; None for an unknown path.

    Litestar's own answer to OPTIONS names only the methods of the path's first route.
    """
    if path == WHOLE_SERVER:
        routes = (route for route in app.routes if isinstance(route, HTTPRoute))
        return allowed(", ".join(method for route in routes for method in route.methods))
    try:
        app.asgi_router.handle_routing(path=normalize_path(path), method=_NO_METHOD)
    except MethodNotAllowedException as error:
        return allowed((error.headers or {})["allow"])
    except HTTPException:
        return None
    return None


async def answer_options(methods: str, send: Send) -> None:
    """Answer OPTIONS with these methods."""
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": 204,
        "headers": [(b"allow", methods.encode())],
    }
    end: HTTPResponseBodyEvent = {"type": "http.response.body", "body": b"", "more_body": False}
    await send(start)
    await send(end)
