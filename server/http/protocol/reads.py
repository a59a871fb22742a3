"""HEAD as GET without the body (RFC 9110, section 9.3.2), and OPTIONS and Allow that say so.

No route declares HEAD: a request for it runs the route of GET until its answer
has begun.
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
    """Sends the head of an answer and drops the rest; an answer that is a stream ends with it."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Any) -> None:
        """Take one message of the application."""
        if message["type"] == "http.response.start":
            await self._send(message)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def allowed(methods: str) -> str:
    """The value of an Allow header, with HEAD where it has GET."""
    names = {name.strip() for name in methods.split(",")}
    return ", ".join(sorted(names | ({"HEAD"} if "GET" in names else set())))


def methods_of(app: Litestar, path: str) -> str | None:
    """The methods that a path takes, as the value of an Allow header; None for an unknown path.

    Litestar's own answer to OPTIONS names those of the path's first route only.
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
