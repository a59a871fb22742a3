"""Retention as a server runs it: with its own trail to record in, in one process at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from ledger.archive.retention.run import DroppedMonth, Recorder, Retention
from ledger.core.lasting import Lasting
from ledger.errors import QuireError, RetentionRefused
from ledger.keys import SigningKeyring
from ledger.storage import dropped_months
from ledger.storage.database import Database
from server.access.directory import Directory
from server.settings import Settings
from server.trails.archive_targets import named_target, policy_of
from server.trails.clock import ServerClock
from server.trails.guarding import TrailGuard

log = structlog.get_logger("quire")

POLL_INTERVAL_S: Final = 3_600.0


class RetentionTask:
    """Lets months go that the policy lets go."""

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
        self, told: Callable[[DroppedMonth], None] = lambda _: None
    ) -> list[DroppedMonth]:
        """Let go of all that is due. Raises RetentionRefused and other QuireErrors."""
        await self._clock.compare(self._database)
        self._clock.settled()
        url = self._settings.archive_target
        if url is None:
            raise RetentionRefused("nothing is archived here: set QUIRE_ARCHIVE_URL")
        async with dropped_months.exclusive(self._database.url) as alone:
            if not alone:
                raise RetentionRefused("another process lets months go now; ask again later")
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
                return await retention.run(told)

    async def watch(self) -> None:
        """Look every hour, for ever; what keeps a month is logged."""
        trouble = Lasting("months stay in the database", "months leave the database again")
        while True:
            try:
                if any(month.due for month in await dropped_months.months(self._database)):
                    await self.run(_tell)
            except QuireError as error:
                trouble.failed(log.warning, str(error))
            else:
                trouble.fine()
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _system(self, event: Mapping[str, Any]) -> int:
        org = await self._directory.system()
        return (await self._guard.record(org, event)).entries[0].seq

    async def _org(self, org_id: int, event: Mapping[str, Any]) -> None:
        org = await self._directory.by_id(org_id)
        if org is None:
            raise RetentionRefused(f"there is no org {org_id}")
        await self._guard.record(org, event)


def _tell(left: DroppedMonth) -> None:
    log.info(
        "a month left the database",
        month=f"{left.month:%Y-%m}",
        entries=left.entries,
        orgs=left.orgs,
        record=left.record_seq,
    )
