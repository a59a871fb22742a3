"""Makes the database of this machine's settings ready, for the server and for commands."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Final, NamedTuple

import structlog

from ledger.core.lasting import Lasting
from ledger.storage.database import LOGIN_SETTINGS, RETENTION_ROLE, SIGNER_ROLE
from ledger.storage.logins import require_confined, require_login
from ledger.storage.migrate import migrate
from ledger.storage.pooler import require_sessions
from ledger.storage.provision import provision
from server.embedded import OWNER_ROLE, SERVER_ROLE, SUPERUSER, EmbeddedPostgres
from server.keys.own_keys import require_own_keys_at, require_own_keys_in
from server.settings import Settings
from server.settings.data_dir import DataDirLock

log = structlog.get_logger("quire")

WATCH_S: Final = 1.0
RUNS_S: Final = 60.0
"""A database that ran for this long did not die for the same reason as before."""


class DatabaseUrls(NamedTuple):
    """The URLs of the database for its owner, the server's role, the signer and retention.

    The last two are None where no setting names them.
    """

    owner: str
    server: str
    signer: str | None
    retention: str | None


@contextmanager
def own_database(settings: Settings, *, serves: bool = False) -> Iterator[DatabaseUrls]:
    """Yield the migrated database of the settings, or the embedded one, running until the end.

    A command uses the embedded database of a running server; a process that ``serves`` starts it
    and keeps it running. Raises ForeignKeys, before anything is written, if this machine's keys
    do not belong to the database, and StartupRefused if another process holds the data directory.
    """
    if settings.database_url is not None:
        owner = settings.database_owner_url or settings.database_url
        asyncio.run(require_sessions(settings.database_url, "QUIRE_DATABASE_URL"))
        asyncio.run(_migrate_own(settings, owner))
        asyncio.run(_require_logins(settings))
        signer, retention = settings.database_signer_url, settings.database_retention_url
        yield DatabaseUrls(owner, settings.database_url, signer, retention)
        return
    postgres = EmbeddedPostgres(settings.data_dir)
    if not serves and settings.data_dir.is_dir() and postgres.attach():
        asyncio.run(require_own_keys_at(postgres.url(OWNER_ROLE), settings))
        yield _urls(postgres)  # the server has migrated it
        return
    with DataDirLock(settings.data_dir):
        postgres.start()
        try:
            asyncio.run(provision(postgres.url(SUPERUSER)))
            asyncio.run(_migrate_own(settings, postgres.url(OWNER_ROLE)))
            with _kept_running(postgres) if serves else nullcontext():
                yield _urls(postgres)
        finally:
            postgres.stop()


def _urls(postgres: EmbeddedPostgres) -> DatabaseUrls:
    return DatabaseUrls(*map(postgres.url, (OWNER_ROLE, SERVER_ROLE, SIGNER_ROLE, RETENTION_ROLE)))


async def _require_logins(settings: Settings) -> None:
    """Raise StorageError unless the logins that are named act as their roles, and only they do."""
    if settings.database_url is not None and (
        settings.database_signer_url or settings.database_retention_url
    ):
        await require_confined(settings.database_url)
    for role, url in (
        (SIGNER_ROLE, settings.database_signer_url),
        (RETENTION_ROLE, settings.database_retention_url),
    ):
        if url is not None:
            await require_sessions(url, LOGIN_SETTINGS[role])
            await require_login(url, role)


async def _migrate_own(settings: Settings, owner_url: str) -> None:
    await migrate(
        owner_url,
        setting=settings.owner_url_setting,
        check=partial(require_own_keys_in, settings=settings),
    )


@contextmanager
def _kept_running(postgres: EmbeddedPostgres) -> Iterator[None]:
    """Start PostgreSQL again within a second or two if it dies."""
    stop = threading.Event()

    trouble = Lasting(
        "the embedded PostgreSQL does not start", "the embedded PostgreSQL runs", quiet_s=0
    )
    deaths = Lasting(
        "the embedded PostgreSQL died and was started again",
        "the embedded PostgreSQL keeps running",
        quiet_s=RUNS_S,
    )

    def watch() -> None:
        while not stop.wait(WATCH_S):
            try:
                if postgres.ensure_running():
                    deaths.failed(log.warning, "its log says why", log=str(postgres.data / "log"))
            except Exception as error:  # noqa: BLE001 - the next second tries again
                trouble.failed(log.error, str(error))
            else:
                trouble.fine()
                deaths.fine()

    thread = threading.Thread(target=watch, name="postgres-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
