"""One server process: the application of a worker, and how uvicorn runs it.

A worker is also started when another one died, at any moment of the database: one that gave up
while the database restarts would end the whole server, as uvicorn takes it for one that can never
start.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, cast

import structlog
import uvicorn
from litestar import Litestar

from ledger.core.lasting import GRACE_S, Lasting
from ledger.errors import DatabaseAway
from server.addresses import networks
from server.app.application import create_app
from server.app.features import FEATURES
from server.feature import Feature
from server.http.protocol.factory import ProtocolFactory
from server.http.protocol.watching.limits import ConnectionLimits
from server.http.short_routes import ShortRoutes
from server.keys.first_start import load_secrets
from server.keys.keyring import LiveKeyring
from server.process.children.context import ProcessContext, follow_supervisor
from server.process.logs import configure
from server.settings import Settings
from server.trails.services import Services

log = structlog.get_logger("quire")

AGAIN_S: Final = 0.5


def application(
    settings: Settings, database_url: str, features: Sequence[Feature] = FEATURES
) -> Litestar:
    """Return the application for these settings and this database (URL of the server role)."""
    tasks = [task for feature in features for task in feature.tasks]

    async def open_services() -> Services:
        secrets = load_secrets(settings, database_is_new=False)
        keyring = LiveKeyring.of(settings, secrets.keyring)
        services = await Services.open(settings, secrets, database_url, keyring, tasks)
        # The objects made so far live as long as the process: the collector can skip them.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        return services

    return create_app(settings, lambda: opened(open_services), features)


async def opened(open_services: Callable[[], Awaitable[Services]]) -> Services:
    """Return the services of this process. Raises DatabaseAway only once a signal ends the process."""
    away = Lasting("a worker waits for the database", "a worker starts", grace_s=GRACE_S)
    while True:
        try:
            return await open_services()
        except DatabaseAway as error:
            if _is_ending():
                raise
            away.failed(log.warning, str(error), early=log.info)
            await asyncio.sleep(AGAIN_S)


def _is_ending() -> bool:
    """Return whether a signal ends the server of this process, which handles it after its start."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return isinstance(server, uvicorn.Server) and server.should_exit


def worker() -> ShortRoutes:
    """Return the application of a spawned worker; it ends when its supervisor has ended."""
    context = ProcessContext.from_environment()
    configure(context.settings)
    follow_supervisor(context.settings.shutdown_seconds)
    return ShortRoutes(application(context.settings, context.database_url))


def connection_limits(settings: Settings) -> ConnectionLimits:
    """Return the limits of the connections of one server process."""
    return ConnectionLimits(
        connections=settings.max_connections,
        per_address=settings.address_connections,
        trusted=tuple(map(str, networks(settings.trusted_proxies))),
        least_rate=settings.least_rate,
        patience_s=settings.patience_seconds,
    )


def uvicorn_config(settings: Settings, app: Litestar | str) -> uvicorn.Config:
    """Return the configuration of uvicorn for the application."""
    return uvicorn.Config(
        app if isinstance(app, str) else ShortRoutes(app),
        factory=isinstance(app, str),
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http=cast("type[asyncio.Protocol]", ProtocolFactory(connection_limits(settings))),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
