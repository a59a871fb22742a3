"""The headers that every answer has, and the only answers that a cache may keep.

An answer holds what is for its caller only, unless it is declared here. A cache between the server
and its callers must not give it to others: not even to those whose key is in ``x-api-key``, which
HTTP's own rule for ``Authorization`` (RFC 9111, section 3.5) does not cover.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

Headers = list[tuple[bytes, bytes]]

NO_STORE: Final = b"no-store"
CHECKPOINT_AGE: Final = b"max-age=1"
FOR_EVER: Final = b"max-age=31536000, immutable"
PUBLIC_ORG_AGE: Final = b"max-age=3600"
"""An org's public log may become private: shared caches must drop it within an hour."""
STATIC_AGE: Final = b"max-age=3600"
REVALIDATED: Final = b"no-cache"
PUBLIC: Final = b"public, "
PRIVATE: Final = b"private, "

CACHED: Final[dict[str, tuple[bytes, ...]]] = {
    "/v1/log/checkpoint": (PUBLIC + CHECKPOINT_AGE,),
    "/v1/log/tile/{tile}": (PUBLIC + FOR_EVER,),
    "/v1/orgs/{org}/log/checkpoint": (PRIVATE + CHECKPOINT_AGE, PUBLIC + CHECKPOINT_AGE),
    "/v1/orgs/{org}/log/tile/{tile}": (PRIVATE + FOR_EVER, PUBLIC + PUBLIC_ORG_AGE),
    "/static/{name}": (STATIC_AGE,),
    "/verify": (REVALIDATED,),
}
"""The routes whose answers a cache may keep, and the values of their Cache-Control.

Any other value, from any route, is sent as no-store.
"""
_CACHED_VALUES: Final = frozenset(value for values in CACHED.values() for value in values)

VARY: Final = b"authorization, x-api-key"
"""The headers that carry keys: a cache keeps the answer to one key apart from that to another."""
DEFAULTS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"cache-control", NO_STORE),
    (b"x-content-type-options", b"nosniff"),
    (b"vary", VARY),
)
_DEFAULTED: Final = frozenset(name for name, _ in DEFAULTS)

Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


def with_defaults(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers of an answer with the defaults, but for those that are declared here."""
    kept: Headers = []
    control, vary = NO_STORE, VARY
    for pair in headers:
        name = pair[0].lower()
        if name not in _DEFAULTED:
            kept.append(pair)
        elif name == b"cache-control":
            control = pair[1] if pair[1] in _CACHED_VALUES else NO_STORE
        elif name == b"vary":
            vary += b", " + pair[1].lower()
    kept += ((b"cache-control", control), DEFAULTS[1], (b"vary", vary))
    return kept


class DefaultHeaders:
    """An ASGI application whose answers have the defaults."""

    __slots__ = ("_app",)

    def __init__(self, app: App) -> None:
        self._app = app

    def __call__(self, scope: Any, receive: Any, send: Send) -> Awaitable[None]:
        """Answer one request. No coroutines of its own: an append pays for a function call only."""

        def send_with(message: Any) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = with_defaults(message["headers"])
            return send(message)

        return self._app(scope, receive, send_with)
