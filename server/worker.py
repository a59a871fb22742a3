"""One server process: the application of a worker, and how uvicorn runs it."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from typing import Final

import msgspec
import uvicorn
from litestar import Litestar

from server.app import create_app
from server.first_start import load_secrets
from server.http.connection import BoundedProtocol
from server.http.door import Door
from server.keyring import LiveKeyring
from server.logs import configure
from server.services import Services
from server.settings import Settings

CONTEXT: Final = "LEDGER_WORKER"
"""Environment variable by which the supervisor tells its workers what to be."""
KEEP_ALIVE_S: Final = 75
WATCH_S: Final = 0.5


class WorkerContext(msgspec.Struct):
    """What a worker is told: its settings, its database and its supervisor."""

    settings: Settings
    database_url: str
    supervisor: int

    def tell(self) -> None:
        """Put it where the workers that are spawned from now on read it."""
        os.environ[CONTEXT] = msgspec.json.encode(self, enc_hook=str).decode()

    @classmethod
    def told(cls) -> WorkerContext:
        """What this worker was told."""
        return msgspec.json.decode(
            os.environ[CONTEXT], type=cls, dec_hook=lambda kind, value: kind(value)
        )


def application(settings: Settings, database_url: str) -> Litestar:
    """The application for these settings and this database (of the server role)."""

    async def open_services() -> Services:
        secrets = load_secrets(settings, database_is_new=False)
        keyring = LiveKeyring(
            settings,
            secrets.keyring,
            lambda: load_secrets(settings, database_is_new=False).keyring,
        )
        services = await Services.open(settings, secrets, database_url, keyring)
        # What was made until now lives as long as the process: not worth looking at again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        return services

    return create_app(settings, open_services)


def worker() -> Door:
    """The application of a spawned worker; ends itself when its supervisor is gone."""
    context = WorkerContext.told()
    configure(context.settings)
    threading.Thread(target=_follow, args=(context.supervisor,), daemon=True).start()
    return Door(application(context.settings, context.database_url))


def _follow(supervisor: int) -> None:
    while os.getppid() == supervisor:
        time.sleep(WATCH_S)
    os.kill(os.getpid(), signal.SIGTERM)


def uvicorn_config(settings: Settings, app: Litestar | str) -> uvicorn.Config:
    """How uvicorn serves the application."""
    return uvicorn.Config(
        app if isinstance(app, str) else Door(app),
        factory=isinstance(app, str),
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
