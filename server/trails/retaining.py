"""Retention in a server: records in the trail "system", runs in one process at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from ledger.archive.retention.run import DroppedMonth, Recorder, Retention
from ledger.core.lasting import GRACE_S, Lasting
from ledger.errors import DatabaseAway, QuireError, RetentionRefused
from ledger.keys import SigningKeyring
from ledger.storage import dropped_months
from ledger.storage.database import Database
from ledger.storage.entries import months
from server.access.directory import Directory
from server.settings import Settings
from server.trails.archive_targets import named_target, policy_of
from server.trails.clock import ServerClock
from server.trails.guarding import TrailGuard

log = structlog.get_logger("quire")

POLL_INTERVAL_S: Final = 3_600.0
"""Between two checks for due months."""
RETRY_S: Final = 5.0
"""The first pause after the database was away; each further one is twice as long, up to an hour."""


class RetentionTask:
    """Drops the months that are due by the retention policy."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        keyring: Callable[[bool], SigningKeyring],
        directory: Directory,
        guard: TrailGuard,
        clock: ServerClock,
    ) -> None:
        self._settings = settings
        self._database = database
        self._keyring = keyring
        self._directory = directory
        self._guard = guard
        self._clock = clock

    async def run(
        self, report: Callable[[DroppedMonth], None] = lambda _: None
    ) -> list[DroppedMonth]:
        """Drop all due months. Raises RetentionRefused and other QuireErrors."""
        await self._clock.compare(self._database)
        self._clock.settled()
        url = self._settings.archive_target
        if url is None:
            raise RetentionRefused("nothing is archived here: set QUIRE_ARCHIVE_URL")
        async with dropped_months.exclusive(self._database.url) as acquired:
            if not acquired:
                raise RetentionRefused("another process is dropping months; try again later")
            async with named_target(self._settings, url) as target:
                await target.check()
                recorder = Recorder(self._system, self._org)
                retention = Retention(
                    target,
                    self._database,
                    self._keyring,
                    recorder,
                    policy_of(self._settings),
                    unlocked=self._settings.retention_unlocked,
                    clock=self._clock.seconds,
                )
                return await retention.run(report)

    async def watch(self) -> None:
        """Drop due months every hour until cancelled; log what prevents it."""
        trouble = Lasting("due months are not dropped", "due months are dropped again")
        away = Lasting(
            "due months wait for the database", "due months are dropped again", grace_s=GRACE_S
        )
        retry_s = RETRY_S
        while True:
            pause_s = POLL_INTERVAL_S
            try:
                if any(month.due for month in await months.present(self._database)):
                    await self.run(_log_dropped)
            except DatabaseAway as error:
                away.failed(log.warning, str(error), early=log.info)
                pause_s, retry_s = retry_s, min(2 * retry_s, POLL_INTERVAL_S)
            except QuireError as error:
                trouble.failed(log.warning, str(error))
            else:
                trouble.fine()
                away.fine()
                retry_s = RETRY_S
            await asyncio.sleep(pause_s)

    async def _system(self, event: Mapping[str, Any]) -> int:
        org = await self._directory.system()
        return (await self._guard.record(org, event)).entries[0].seq

    async def _org(self, org_id: int, event: Mapping[str, Any]) -> None:
        org = await self._directory.by_id(org_id)
        if org is None:
            raise RetentionRefused(f"an org with entries in the month does not exist (id {org_id})")
        await self._guard.record(org, event)


def _log_dropped(dropped: DroppedMonth) -> None:
    log.info(
        "a month was dropped from the database",
        month=f"{dropped.month:%Y-%m}",
        entries=dropped.entries,
        orgs=dropped.orgs,
        record=dropped.record_seq,
    )
