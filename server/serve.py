"""`quire serve`: the database made ready, the workers run, everything stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec
import structlog
import uvicorn
from uvicorn.supervisors import Multiprocess

from ledger.storage import orgs
from ledger.storage.database import Database
from ledger.storage.departed import set_keep_months
from ledger.storage.migrate import migrate
from ledger.storage.provision import provision
from server.archiving import archiving
from server.banner import banner
from server.beginnings import begin
from server.context import CONTEXT, ProcessContext
from server.data_dir import DataDirLock, make_data_dir
from server.embedded import OWNER_ROLE, SERVER_ROLE, SUPERUSER, EmbeddedPostgres
from server.first_start import load_secrets
from server.listening import listen
from server.logs import configure
from server.settings import Settings
from server.signing import signing
from server.worker import application, uvicorn_config

log = structlog.get_logger("quire")

WATCH_S: Final = 1.0


def serve(settings: Settings) -> int:
    """Serve until a signal; returns the exit code. Raises StartupRefused or QuireError."""
    configure(settings)
    settings = msgspec.structs.replace(settings, data_dir=make_data_dir(settings.data_dir))
    listener = listen(settings.host, settings.port)
    with contextlib.closing(listener), _ended_in_order(), _database(settings) as url:
        asyncio.run(prepare(settings, url))
        with signing(settings, url), archiving(settings, url), _announced(settings):
            return _run(settings, url, listener)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGINT unwind the stack, so that what was started here is stopped here.

    While uvicorn serves, it takes them, drains, and raises them again when it is done: by
    default that would end the process on the spot and leave its PostgreSQL running.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise SystemExit(0)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _database(settings: Settings) -> Iterator[str]:
    """The migrated database, as the URL of the server role; an embedded one is stopped after."""
    if settings.database_url is not None:
        owner_url = settings.database_owner_url or settings.database_url
        asyncio.run(migrate(owner_url))
        asyncio.run(set_keep_months(owner_url, settings.retention_months))
        yield settings.database_url
        return
    with DataDirLock(settings.data_dir):
        postgres = EmbeddedPostgres(settings.data_dir)
        postgres.start()
        try:
            asyncio.run(_provision(postgres))
            asyncio.run(set_keep_months(postgres.url(OWNER_ROLE), settings.retention_months))
            with _kept_running(postgres):
                yield postgres.url(SERVER_ROLE)
        finally:
            postgres.stop()


async def _provision(postgres: EmbeddedPostgres) -> None:
    await provision(postgres.url(SUPERUSER))
    await migrate(postgres.url(OWNER_ROLE))


@contextmanager
def _kept_running(postgres: EmbeddedPostgres) -> Iterator[None]:
    """Start PostgreSQL again within a second or two should it die."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(WATCH_S):
            try:
                if postgres.ensure_running():
                    log.warning("the embedded PostgreSQL had died and was started again")
            except Exception as error:  # noqa: BLE001 - the next second tries again
                log.error("the embedded PostgreSQL does not start", reason=str(error))  # noqa: TRY400

    thread = threading.Thread(target=watch, name="postgres-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def prepare(settings: Settings, url: str) -> None:
    """Read or make the keys, and what a first start makes, before any worker runs."""
    database = await Database.open(url, size=2)
    try:
        secrets = load_secrets(settings, database_is_new=not await orgs.any_org(database))
        await begin(settings, secrets, database)
    finally:
        await database.close()


def _run(settings: Settings, url: str, listener: socket.socket) -> int:
    if settings.workers == 1:
        server = uvicorn.Server(uvicorn_config(settings, application(settings, url)))
        server.run(sockets=[listener])
        return 0 if server.started else 2  # 1 says that a trail has a fault
    os.environ[CONTEXT] = ProcessContext(settings, url, os.getpid()).spelled()
    metrics = Path(tempfile.mkdtemp(prefix="quire-metrics-"))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    try:
        config = uvicorn_config(settings, "server.worker:worker")
        Multiprocess(config, [listener]).run()
    finally:
        shutil.rmtree(metrics, ignore_errors=True)
    return 0


@contextmanager
def _announced(settings: Settings) -> Iterator[None]:
    """Print what a person needs next, once the server answers."""
    stop = threading.Event()

    def announce() -> None:
        while not stop.wait(0.05):
            with contextlib.suppress(OSError, urllib.error.URLError):
                urllib.request.urlopen(f"{base_url(settings)}/readyz", timeout=5).close()  # noqa: S310
                print(banner(settings, base_url(settings)), file=sys.stdout, flush=True)  # noqa: T201
                return

    thread = threading.Thread(target=announce, name="announce", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()


def base_url(settings: Settings) -> str:
    """The URL under which this machine reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{host}:{settings.port}"
