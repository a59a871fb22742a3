"""The Litestar application: a composition root.

:func:`create_app` takes a coroutine that opens the services, so that the same
application runs in a worker process and in a test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.openapi import OpenAPIConfig

from ledger import __version__
from server.http import entries, operations, tenants, verifications
from server.http.problems import HANDLERS
from server.services import Services
from server.settings import Settings


def create_app(settings: Settings, open_services: Callable[[], Awaitable[Services]]) -> Litestar:
    """The application; the services open with its lifespan and close with it."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        app.state.services = await open_services()
        try:
            yield
        finally:
            await app.state.services.close()

    return Litestar(
        route_handlers=[
            tenants.router,
            entries.router,
            verifications.router,
            operations.router,
            operations.static,
        ],
        lifespan=[lifespan],
        exception_handlers=HANDLERS,
        request_max_body_size=settings.max_body_bytes,
        openapi_config=OpenAPIConfig(title="Quire", version=__version__, path="/openapi"),
        logging_config=None,
    )
