"""The Litestar application: a composition root.

:func:`create_app` takes a coroutine that opens the services, so that the same
application runs in a worker process and in a test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Final

from litestar import Litestar
from litestar.datastructures import State

from server.http.api.description import describe
from server.http.guard import guard, require_promises
from server.http.problems import HANDLERS
from server.http.routes import (
    archives,
    bundles,
    checkpoints,
    entries,
    erasures,
    log,
    operations,
    proofs,
    tenants,
    verifications,
)
from server.services import Services
from server.settings import Settings

ROUTERS: Final = (
    tenants.router,
    entries.router,
    erasures.router,
    verifications.router,
    log.router,
    checkpoints.router,
    proofs.router,
    bundles.router,
    archives.router,
    operations.router,
)


@cache
def description() -> bytes:
    """The OpenAPI document, made when it is first asked for."""
    return describe(ROUTERS)


def create_app(settings: Settings, open_services: Callable[[], Awaitable[Services]]) -> Litestar:
    """The application; the services open with its lifespan and close with it."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        app.state.services = await open_services()
        try:
            yield
        finally:
            await app.state.services.close()

    app = Litestar(
        guards=[guard],
        route_handlers=ROUTERS,
        state=State({"description": description}),
        lifespan=[lifespan],
        exception_handlers=HANDLERS,
        request_max_body_size=settings.max_body_bytes,
        openapi_config=None,
        logging_config=None,
    )
    require_promises(app)
    return app
