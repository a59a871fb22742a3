"""The indexer: adds the rows of new runs to the search index, until it is stopped.

It needs the master key, of which the key of the index is derived, and no signing key. Nothing here
may stop appends or searches. Failures are logged and retried.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from ledger.core.indexing.builder import IndexBuilder
from ledger.core.lasting import GRACE_S, Lasting
from ledger.errors import DatabaseUnavailable, QuireError
from ledger.sealing import index_key
from ledger.storage.indexing import APPLICATION, IndexerConnection
from server.keys.first_start import load_master_key
from server.process.children.child import kept_running, run_child, until_leading
from server.process.children.context import ProcessContext
from server.refusal import StartupRefused
from server.settings import Settings

log = structlog.get_logger("quire")

AGAIN_S: Final = 2.0
POLL_INTERVAL_S: Final = 2.0
RECHECK_S: Final = 600.0
"""How often the rows of each trail are looked up again, which may have been removed."""
NICENESS: Final = 10
"""Appends have priority."""


class Indexer:
    """An indexer of one database: works while it holds the indexer's lock, else waits for it."""

    def __init__(self, settings: Settings, database_url: str) -> None:
        self._settings = settings
        self._url = database_url
        self._waits = Lasting("the search index waits", "the search index is built again")
        self._away = Lasting(
            "the search index waits for the database",
            "the search index is built again",
            grace_s=GRACE_S,
        )

    async def run(self) -> None:
        """Build until cancelled."""
        while True:
            try:
                await self._lead()
            except DatabaseUnavailable as error:
                self._away.failed(log.warning, str(error), early=log.info)
            except (QuireError, StartupRefused) as error:
                self._waits.failed(log.error, str(error))
            await asyncio.sleep(AGAIN_S)

    async def _lead(self) -> None:
        key = index_key(load_master_key(self._settings))
        async with IndexerConnection.open(self._url) as connection:
            await until_leading(
                connection.lead,
                connection.leader,
                work="builds the search index",
                application=APPLICATION,
                again_s=AGAIN_S,
            )
            await self._build(IndexBuilder(connection, key))

    async def _build(self, builder: IndexBuilder) -> None:
        checked = time.monotonic()
        while True:
            behind = await builder.round()
            self._waits.fine()
            self._away.fine()
            if time.monotonic() - checked >= RECHECK_S:
                checked = time.monotonic()
                builder.forget()
            elif not behind:
                await asyncio.sleep(POLL_INTERVAL_S)


@contextmanager
def indexing(settings: Settings, database_url: str) -> Iterator[None]:
    """Keep one indexer running while the block runs; stop it in order afterwards."""
    with kept_running("indexer", __name__, settings, database_url):
        yield


def main(context: ProcessContext) -> None:
    """Run the indexer's process, which the supervisor starts."""
    os.nice(NICENESS)
    run_child(context, lambda context: Indexer(context.settings, context.database_url).run())
