"""The process of retention: seals months and drops those that are due, every hour, until stopped.

It alone has the login of retention. It connects as the server only to read, and to append the
server's own entries. Between two turns it has no connection.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Final

import structlog

from ledger.archive.retention.run import DroppedMonth
from ledger.core.lasting import GRACE_S, Lasting
from ledger.core.sealing.sealer import Sealer
from ledger.errors import ClockUnsteady, DatabaseAway, QuireError
from ledger.storage import migrate
from ledger.storage.database import Database
from ledger.storage.dropped_months import APPLICATION
from ledger.storage.orgs import any_org
from server.access.administering import administering
from server.access.directory import Directory
from server.keys.first_start import load_secrets
from server.keys.head_memory import open_heads
from server.keys.keyring import LiveKeyring
from server.keys.own_keys import require_own_keys_in
from server.process.children.child import kept_running, run_child
from server.process.children.context import ProcessContext
from server.refusal import StartupRefused
from server.settings import Settings
from server.trails.clock import ServerClock
from server.trails.guarding import TrailGuard
from server.trails.retaining import RetentionTask

log = structlog.get_logger("quire")

POLL_INTERVAL_S: Final = 3_600.0
RETRY_S: Final = 5.0
"""The first pause after the database was away; each further one is twice as long, up to an hour."""
CONNECTIONS: Final = 2
NICENESS: Final = 10
"""Appends have priority."""


class RetentionProcess:
    """Takes a turn every hour; what prevents it is logged and tried again."""

    def __init__(self, settings: Settings, database_url: str, retention_url: str) -> None:
        self._settings = settings
        self._url = database_url
        self._retention_url = retention_url
        self._retry_s = RETRY_S
        self._trouble = Lasting("due months are not dropped", "due months are dropped again")
        self._away = Lasting(
            "due months wait for the database", "due months are dropped again", grace_s=GRACE_S
        )

    async def run(self) -> None:
        """Take turns until cancelled."""
        while True:
            pause_s = await self._pause_after_turn()
            await asyncio.sleep(pause_s)

    async def _pause_after_turn(self) -> float:
        try:
            await self._turn()
        except DatabaseAway as error:
            self._away.failed(log.warning, str(error), early=log.info)
            pause_s, self._retry_s = self._retry_s, min(2 * self._retry_s, POLL_INTERVAL_S)
            return pause_s
        except ClockUnsteady as error:
            return min(float(error.retry_after), POLL_INTERVAL_S)
        except (QuireError, StartupRefused) as error:
            self._trouble.failed(log.warning, str(error))
            return POLL_INTERVAL_S
        self._trouble.fine()
        self._away.fine()
        self._retry_s = RETRY_S
        return POLL_INTERVAL_S

    async def _turn(self) -> None:
        async with retention_task(self._settings, self._url, self._retention_url) as task:
            await task.seal()
            if self._settings.retention_months is not None and await task.due():
                await task.run(_log_dropped)


@asynccontextmanager
async def retention_task(
    settings: Settings, database_url: str, retention_url: str
) -> AsyncIterator[RetentionTask]:
    """Open what retention needs: connections, the keys, and a sequencer for the server's entries.

    Raises SecretsError, ForeignKeys, MigrationError, StorageError.
    """
    secrets = load_secrets(settings, database_is_new=False)
    database = await Database.open(database_url, size=CONNECTIONS, name=APPLICATION)
    try:
        await migrate.require_current(database)
        await require_own_keys_in(database, settings, secrets)
        clock, keyring = ServerClock(settings), LiveKeyring.of(settings, secrets.keyring)
        master_key = secrets.master_key
        heads = open_heads(settings, master_key, has_orgs=await any_org(database))
        with closing(heads):
            async with administering(
                database, keyring, master_key, heads, clock=clock.wall
            ) as administration:
                register = administration.register
                sealer = Sealer(database, master_key, register)
                guard = TrailGuard(database, administration.sequencer, sealer, administration)
                directory, rows = Directory(database, register), register.row_key
                yield RetentionTask(
                    settings, database, retention_url, keyring, directory, guard, clock, rows
                )
    finally:
        await database.close()


def _log_dropped(dropped: DroppedMonth) -> None:
    log.info(
        "a month was dropped from the database",
        month=f"{dropped.month:%Y-%m}",
        entries=dropped.entries,
        orgs=dropped.orgs,
        record=dropped.record_seq,
    )


@contextmanager
def retaining(settings: Settings, database_url: str, retention_url: str | None) -> Iterator[None]:
    """Keep one such process running while the block runs, if there is a login for it."""
    if retention_url is None:
        yield
        return
    with kept_running("retention", __name__, settings, database_url, retention_url):
        yield


def _process(context: ProcessContext) -> RetentionProcess:
    assert context.login_url is not None, "the supervisor starts it only with its login"
    return RetentionProcess(context.settings, context.database_url, context.login_url)


def main(context: ProcessContext) -> None:
    """Run the process of retention, which the supervisor starts."""
    os.nice(NICENESS)
    run_child(context, lambda context: _process(context).run())
