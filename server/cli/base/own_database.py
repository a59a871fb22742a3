"""The database of this machine's settings, for commands that work on it themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ledger.storage.migrate import migrate
from ledger.storage.pooler import require_sessions
from ledger.storage.provision import provision
from server.embedded import OWNER_ROLE, SERVER_ROLE, SUPERUSER, EmbeddedPostgres
from server.keys.own_keys import require_own_keys_at
from server.settings import Settings
from server.settings.data_dir import DataDirLock


class DatabaseUrls(NamedTuple):
    """How the database is reached by its owner, and by the server's role."""

    owner: str
    server: str


@contextmanager
def own_database(settings: Settings) -> Iterator[DatabaseUrls]:
    """The migrated database: that of the settings, or the embedded one, running while it lasts.

    Raises ForeignKeys, before anything is written, where this machine's keys are not its own.
    """
    if settings.database_url is not None:
        owner = settings.database_owner_url or settings.database_url
        asyncio.run(require_sessions(settings.database_url, "QUIRE_DATABASE_URL"))
        asyncio.run(require_own_keys_at(owner, settings))
        asyncio.run(migrate(owner, setting=settings.owner_url_setting))
        yield DatabaseUrls(owner, settings.database_url)
        return
    postgres = EmbeddedPostgres(settings.data_dir)
    if settings.data_dir.is_dir() and postgres.attach():  # a server runs it, and has migrated it
        asyncio.run(require_own_keys_at(postgres.url(OWNER_ROLE), settings))
        yield DatabaseUrls(postgres.url(OWNER_ROLE), postgres.url(SERVER_ROLE))
        return
    with DataDirLock(settings.data_dir):
        postgres.start()
        try:
            asyncio.run(provision(postgres.url(SUPERUSER)))
            asyncio.run(require_own_keys_at(postgres.url(OWNER_ROLE), settings))
            asyncio.run(migrate(postgres.url(OWNER_ROLE)))
            yield DatabaseUrls(postgres.url(OWNER_ROLE), postgres.url(SERVER_ROLE))
        finally:
            postgres.stop()
