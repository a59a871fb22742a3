"""`quire serve`: makes the database ready, runs the workers, stops everything in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import structlog
import uvicorn

from ledger.core.checkpointing import MEMORY_FILE
from ledger.core.sequencer import HEADS_FILE
from ledger.entry import to_datetime
from ledger.storage import partitions
from ledger.storage.clock import now_us
from ledger.storage.database import Database
from ledger.storage.dropped_months import set_keep_months
from ledger.storage.lock_waits import log_lock_waits
from ledger.storage.orgs import any_org
from server.access.beginnings import DEMO_KEY, PLATFORM_KEY, begin
from server.access.keys.platform_keys import KeyFile
from server.http.protocol.listening import listen
from server.http.protocol.open_files import raise_limit
from server.http.protocol.watching.limits import RESERVED_CONNECTIONS
from server.keys.first_start import load_secrets
from server.keys.head_memory import open_heads
from server.keys.key_files import close_command, exposure
from server.keys.own_keys import claim, is_new
from server.process.archiving import archiving
from server.process.children.context import CONTEXT, ProcessContext
from server.process.children.forking import set_environment
from server.process.database.connections import connections_needed, warn_of_few_connections
from server.process.database.own_database import DatabaseUrls, own_database
from server.process.database.required_logins import retention_login, signer_login
from server.process.indexer import indexing
from server.process.logs import configure
from server.process.retention import retaining
from server.process.runs.banner import banner
from server.process.runs.ending import EndSignal, Supervisor, ended_in_order
from server.process.runs.staged import ServedRun, stage_start, stop_staged
from server.process.signing import signing
from server.process.worker import application, uvicorn_config
from server.settings import Settings
from server.settings.data_dir import concerns, make_data_dir

log = structlog.get_logger("quire")

ASKED_FIRST_S: Final = 0.05
ASKED_LAST_S: Final = 1.0
ASKED_LESS: Final = 1.2
"""The banner waits for readyz: first and longest pause between two calls, and the growth of pauses."""


class Prepared(NamedTuple):
    """A database that is ready to be served: the state of the platform key file, and this run."""

    platform: KeyFile
    run: ServedRun


def serve(settings: Settings) -> int:
    """Serve until a signal; returns the exit code. Raises StartupRefused or QuireError."""
    configure(settings)
    settings = replace(settings, data_dir=make_data_dir(settings.data_dir))
    _report_concerns(settings)
    set_environment(settings.data_dir)
    raise_limit(
        settings.max_connections + RESERVED_CONNECTIONS + connections_needed(settings),
        "lower QUIRE_MAX_CONNECTIONS.",
    )
    with (
        _listening(settings) as listeners,
        ended_in_order() as ending,
        _database(settings) as urls,
    ):
        signer, retention = signer_login(settings, urls), retention_login(settings, urls)
        url = urls.server
        platform, run = asyncio.run(prepare(settings, url))
        with (
            signing(settings, signer),
            archiving(settings, url),
            indexing(settings, url),
            retaining(settings, url, retention),
            stop_staged(run, url, ending),
            _announced(settings, platform),
        ):
            return _run(settings.without_logins(), url, listeners, ending)


def _report_concerns(settings: Settings) -> None:
    """Log a warning for each way in which others may access the keys, with the command to fix it."""
    names = (PLATFORM_KEY, DEMO_KEY, MEMORY_FILE, HEADS_FILE)
    found = concerns(settings.data_dir)
    for path in (settings.data_dir / name for name in names):
        if path.is_file() and (complaint := exposure(path.stat())):
            found.append((f"{path} {complaint}", close_command(path)))
    for concern, command in found:
        log.warning(concern, command=command)


@contextmanager
def _listening(settings: Settings) -> Iterator[list[socket.socket]]:
    """Yield the listening sockets: that of the API, and the private one where it is configured."""
    with contextlib.ExitStack() as closing:
        api = closing.enter_context(listen(settings.host, settings.port))
        listeners = [api]
        if settings.metrics_port is not None:
            options = "QUIRE_METRICS_HOST and QUIRE_METRICS_PORT"
            private = listen(settings.metrics_host, settings.metrics_port, options)
            listeners.append(closing.enter_context(private))
        yield listeners


@contextmanager
def _database(settings: Settings) -> Iterator[DatabaseUrls]:
    """Yield the URLs of the migrated database; keep an embedded one running."""
    with own_database(settings, serves=True) as database:
        asyncio.run(set_keep_months(database.owner, settings.retention_months))
        yield database


async def prepare(settings: Settings, url: str) -> Prepared:
    """Read the keys, or make them and the first orgs at a first start, before any worker runs.

    Stages the start of this server for the trail `system`, too.
    """
    name = f"quire start {os.getpid()}"
    async with log_lock_waits(url, name):
        return await _prepare(settings, url, name)


async def _prepare(settings: Settings, url: str, name: str) -> Prepared:
    database = await Database.open(url, size=2, name=name)
    try:
        await warn_of_few_connections(settings, database)
        # The workers do it too, but here a lock that delays it is reported.
        # By the database's clock: this machine's is not compared with another one yet.
        await partitions.prepare(database, to_datetime(await now_us(database)))
        secrets = load_secrets(settings, database_is_new=await is_new(database))
        await claim(database, settings, secrets)
        # Opened before the workers: a file that can't be used is reported once, and ends the start.
        has_orgs = await any_org(database)
        with contextlib.closing(
            open_heads(settings, secrets.master_key, has_orgs=has_orgs)
        ) as heads:
            platform = await begin(settings, secrets, database, heads)
        return Prepared(platform, await stage_start(settings, secrets.master_key, database))
    finally:
        await database.close()


def _run(settings: Settings, url: str, listeners: list[socket.socket], ending: EndSignal) -> int:
    if settings.workers == 1:
        server = uvicorn.Server(uvicorn_config(settings, application(settings, url)))
        server.run(sockets=listeners)
        return 0 if server.started else 2  # 1 means that a trail has a fault
    os.environ[CONTEXT] = ProcessContext(settings, url).encoded()
    metrics = Path(tempfile.mkdtemp(prefix="quire-metrics-"))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    try:
        config = uvicorn_config(settings, "server.process.worker:worker")
        Supervisor(config, listeners, ending).run()
    finally:
        shutil.rmtree(metrics, ignore_errors=True)
    return 0


@contextmanager
def _announced(settings: Settings, platform: KeyFile) -> Iterator[None]:
    """Print the banner once the server answers."""
    stop = threading.Event()
    # A proxy of the environment has nothing to do with this machine's own address.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def announce() -> None:
        pause_s = ASKED_FIRST_S
        while not stop.wait(pause_s):
            pause_s = min(pause_s * ASKED_LESS, ASKED_LAST_S)
            with contextlib.suppress(OSError, urllib.error.URLError):
                direct.open(f"{base_url(settings)}/readyz", timeout=5).close()
                print(banner(settings, base_url(settings), platform), file=sys.stdout, flush=True)  # noqa: T201
                return

    thread = threading.Thread(target=announce, name="announce", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()


def base_url(settings: Settings) -> str:
    """Return the URL under which this machine reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{host}:{settings.port}"
