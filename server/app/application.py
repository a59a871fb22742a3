"""The Litestar application: a composition root.

:func:`create_app` takes a coroutine that opens the services, so that the same
application runs in a worker process and in a test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib import import_module

from litestar import Litestar, Router
from litestar.datastructures import State

from server.app.features import FEATURES
from server.feature import Feature, load, tags_of
from server.http.api.description import describe
from server.http.caller import guard
from server.http.contract import require_contracts
from server.http.problems import HANDLERS
from server.http.short_routes import SETTINGS
from server.settings import Settings
from server.trails.services import Services


def routers(features: Sequence[Feature]) -> list[Router]:
    """Return the routers of all features."""
    return [load(target) for feature in features for target in feature.routes]


def description(features: Sequence[Feature] = FEATURES) -> bytes:
    """Return the OpenAPI document of all features."""
    packages = [name for feature in features for name in feature.errors]
    return describe(routers(features), tags_of(features), packages)


def create_app(
    settings: Settings,
    open_services: Callable[[], Awaitable[Services]],
    features: Sequence[Feature] = FEATURES,
) -> Litestar:
    """Return the application; its lifespan opens and closes the services.

    Raises NoRightStated where a route does not state the right that it requires.
    """
    for module in (name for feature in features for name in feature.metrics):
        import_module(module)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        app.state.services = await open_services()
        try:
            yield
        finally:
            await app.state.services.close()

    app = Litestar(
        guards=[guard],
        route_handlers=routers(features),
        state=State({"description": cache(lambda: description(features)), SETTINGS: settings}),
        lifespan=[lifespan],
        exception_handlers=HANDLERS,
        request_max_body_size=settings.max_body_bytes,
        openapi_config=None,
        logging_config=None,
    )
    require_contracts(app)
    return app
